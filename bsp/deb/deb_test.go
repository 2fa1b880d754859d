package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/deb/debtest"
	"resinos/mounts/testenv"
)

func sampleFiles() ([]tar.Header, map[string]string) {
	return []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755},
		{Name: "./usr/bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"},
		{Name: "./usr/bin/ash", Typeflag: tar.TypeLink, Linkname: "./usr/bin/busybox"},
		{Name: "./etc/empty", Typeflag: tar.TypeReg, Mode: 0o644},
	}, map[string]string{"./usr/bin/busybox": "#!busybox"}
}

// list extracts everything and writes it as lines.
func list(file string, want func(string) bool) (string, error) {
	var b strings.Builder
	err := Extract(file, want, func(e Entry, r io.Reader) error {
		content, err := io.ReadAll(r)
		b.WriteString(e.Mode.String() + " " + e.Name + " " + e.Link + " " + string(content) + "\n")
		return err
	})
	return b.String(), err
}

func TestExtract(t *testing.T) {
	files, contents := sampleFiles()
	const all = "drwxr-xr-x usr/bin  \n-rwxr-xr-x usr/bin/busybox  #!busybox\nL--------- usr/bin/sh busybox " +
		"\n---------- usr/bin/ash usr/bin/busybox \n-rw-r--r-- etc/empty  \n"
	for _, compression := range []string{"", "gz", "xz", "zst"} {
		file := filepath.Join(t.TempDir(), "x.deb")
		debtest.Write(t, file, compression, "Package: x\n", files, contents)
		if got, err := list(file, nil); err != nil || got != all {
			t.Errorf("%q: Extract = %s, %v, want %s", compression, got, err, all)
		}
		one := func(name string) bool { return name == "usr/bin/busybox" }
		if got, err := list(file, one); err != nil || got != "-rwxr-xr-x usr/bin/busybox  #!busybox\n" {
			t.Errorf("%q: Extract of one file = %s, %v", compression, got, err)
		}
	}
}

func TestExtractStops(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.deb")
	files, contents := sampleFiles()
	debtest.Write(t, file, "xz", "", files, contents)
	calls := 0
	err := Extract(file, nil, func(Entry, io.Reader) error { calls++; return SkipAll })
	if err != nil || calls != 1 {
		t.Errorf("SkipAll: %d calls, %v, want 1 and no error", calls, err)
	}
	own := errors.New("mine")
	if err := Extract(file, nil, func(Entry, io.Reader) error { return own }); err != own {
		t.Errorf("Extract = %v, want the error of visit as it is", err)
	}
}

func TestExtractFaults(t *testing.T) {
	dir := t.TempDir()
	files, contents := sampleFiles()
	good := filepath.Join(dir, "good.deb")
	debtest.Write(t, good, "xz", "", files, contents)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-60] ^= 0xff
	outside := debtest.Tar(t, []tar.Header{{Name: "../../etc/passwd", Typeflag: tar.TypeReg}}, nil)
	hard := debtest.Tar(t, []tar.Header{{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../b"}}, nil)
	for name, content := range map[string][]byte{
		"empty":               {},
		"text":                []byte("<html>404 not found</html>"),
		"magic alone":         []byte("!<arch>\n"),
		"cut off in header":   whole[:100],
		"cut off in data":     whole[:len(whole)-20],
		"flipped bit":         flipped,
		"no data":             debtest.Ar("debian-binary", []byte("2.0\n")),
		"unknown compression": debtest.Ar("data.tar.lzma", []byte("x")),
		"name leads out":      debtest.Ar("data.tar", outside),
		"link leads out":      debtest.Ar("data.tar", hard),
		"size beyond the end": []byte("!<arch>\n" + "data.tar        0           0     0     100644  9999999999`\n"),
		"negative size":       []byte("!<arch>\n" + "data.tar        0           0     0     100644  -1        `\n"),
	} {
		file := filepath.Join(dir, "x.deb")
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := list(file, nil); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	if _, err := list(filepath.Join(dir, "absent"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// bigPackage is large enough for the host's xz.
func bigPackage(t *testing.T) (file string, content []byte) {
	t.Helper()
	program := testenv.NeedProgram(t, "xz")
	r := rand.NewChaCha8([32]byte{})
	content = make([]byte, worthProcess+1<<16)
	_, _ = r.Read(content) // never fails
	file = filepath.Join(t.TempDir(), "big.deb")
	xz := exec.Command(program, "-0")
	xz.Stdin = bytes.NewReader(debtest.Tar(t, []tar.Header{{Name: "a"}, {Name: "b"}},
		map[string]string{"a": string(content), "b": "end"}))
	packed, err := xz.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, debtest.Ar("data.tar.xz", packed), 0o644); err != nil {
		t.Fatal(err)
	}
	return file, content
}

func TestExtractThroughHostXZ(t *testing.T) {
	file, content := bigPackage(t)
	var got []byte
	err := Extract(file, nil, func(e Entry, r io.Reader) error {
		b, err := io.ReadAll(r)
		if e.Name == "a" {
			got = b
		}
		return err
	})
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("Extract: %d bytes, %v, want the same %d bytes", len(got), err, len(content))
	}
	if err := Extract(file, nil, func(Entry, io.Reader) error { return SkipAll }); err != nil {
		t.Errorf("stopped early: %v", err)
	}
}

func TestExtractThroughHostXZDamaged(t *testing.T) {
	file, _ := bigPackage(t)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("damage"), st.Size()/2)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := list(file, nil); err == nil || !strings.Contains(err.Error(), "xz") {
		t.Errorf("Extract of a damaged package: %v, want what xz says", err)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n"))
	f.Add([]byte("!<arch>\ndata.tar        0           0     0     100644  0         `\n"))
	f.Add([]byte("!<arch>\ndata.tar.gz     0           0     0     100644  3         `\nxyz"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "x.deb")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = Extract(file, nil, func(e Entry, r io.Reader) error {
			if !filepath.IsLocal(e.Name) {
				t.Errorf("name %q leads out", e.Name)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}
