// Package debtest makes small Debian packages for tests. It is no part of any program. Read Write first.
package debtest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Write writes a package with these files to path. compression is "", "gz", "xz" or "zst".
func Write(t *testing.T, path, compression, control string, files []tar.Header, contents map[string]string) {
	t.Helper()
	data := Tar(t, files, contents)
	suffix := ""
	if compression != "" {
		suffix = "." + compression
	}
	packed := Compress(t, compression, data)
	controlTar := Compress(t, "gz", Tar(t, []tar.Header{{Name: "./control", Mode: 0o644}},
		map[string]string{"./control": control}))
	ar := Ar("debian-binary", []byte("2.0\n"), "control.tar.gz", controlTar, "data.tar"+suffix, packed)
	if err := os.WriteFile(path, ar, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Ar makes an archive of pairs of a name (string) and a content ([]byte).
func Ar(pairs ...any) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for i := 0; i < len(pairs); i += 2 {
		content := pairs[i+1].([]byte)
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", pairs[i], 0, 0, 0, "100644", len(content))
		b.Write(content)
		if len(content)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Tar makes a tar; a header's size comes from its content.
func Tar(t *testing.T, files []tar.Header, contents map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range files {
		h.Size = int64(len(contents[h.Name]))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents[h.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Compress compresses by name.
func Compress(t *testing.T, compression string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "zst":
		w, err = zstd.NewWriter(&b)
	default:
		return data
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
