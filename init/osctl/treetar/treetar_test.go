package treetar

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// place is a root beside a file that nobody may reach through it.
func place(t *testing.T) (r *Root, dir, outside string) {
	t.Helper()
	base := t.TempDir()
	dir, outside = filepath.Join(base, "root"), filepath.Join(base, "outside")
	if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outside, "secret"), "secret")
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, dir, outside
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// TestThereAndBack: what is copied out of one root and into another is the same: files, directories, links, modes; what
// is neither is counted.
func TestThereAndBack(t *testing.T) {
	from, dir, _ := place(t)
	if err := os.MkdirAll(filepath.Join(dir, "d/sub/empty"), 0o750); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "d/sub/x"), strings.Repeat("x", 100_000))
	link(t, "/nowhere", filepath.Join(dir, "d/link"))
	if err := unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for as, want := range map[string]string{"d": "d", "other": "other", ".": "."} {
		var b bytes.Buffer
		others, err := from.Write(&b, "/d", as)
		if err != nil || others != 1 {
			t.Fatalf("%d others, %v", others, err)
		}
		to, copied, _ := place(t)
		if err := to.Read(&b, "/", os.Geteuid() == 0); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(copied, want, "sub/x"))
		info, err2 := os.Stat(filepath.Join(copied, want, "sub/empty"))
		target, err3 := os.Readlink(filepath.Join(copied, want, "link"))
		if err != nil || err2 != nil || err3 != nil || len(text) != 100_000 || info.Mode() != os.ModeDir|0o750 ||
			target != "/nowhere" {
			t.Errorf("as %q: %v %v %v, %d bytes, %v, link to %s", as, err, err2, err3, len(text), info, target)
		}
	}
}

// TestNoLinkLeadsOut: neither reading nor writing reaches what is outside of the root.
func TestNoLinkLeadsOut(t *testing.T) {
	r, dir, outside := place(t)
	link(t, outside, filepath.Join(dir, "absolute"))
	link(t, "../outside", filepath.Join(dir, "relative"))
	link(t, filepath.Join(outside, "secret"), filepath.Join(dir, "file"))
	for _, name := range []string{"/absolute/secret", "relative/secret", "/file", "../outside/secret",
		"/d/../../outside/secret"} {
		var b bytes.Buffer
		if _, err := r.Write(&b, name, "x"); err == nil {
			t.Errorf("%s can be read", name)
		}
	}
	for _, entries := range [][]tar.Header{
		{{Name: "absolute/new", Typeflag: tar.TypeReg}},
		{{Name: "relative/new", Typeflag: tar.TypeReg}},
		{{Name: "../outside/new", Typeflag: tar.TypeReg}},
		{{Name: "d/own", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "d/own/new", Typeflag: tar.TypeReg}},
		{{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "absolute/secret"}},
		{{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "../outside/secret"}},
		{{Name: "file", Typeflag: tar.TypeReg, Mode: 0o777}}, // replaces the link and not what it leads to
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_ = r.Read(&b, "/", false) // it may be refused, or make a file within the root
	}
	list, err := os.ReadDir(outside)
	info, err2 := os.Stat(filepath.Join(outside, "secret"))
	if err != nil || err2 != nil || len(list) != 1 || info.Size() != 6 || info.Mode().Perm() != 0o640 {
		t.Errorf("outside: %v, %v, %v, %v", list, info, err, err2)
	}
	if _, err := os.Lstat(filepath.Join(dir, "d/hard")); err == nil {
		t.Error("a hard link leads out")
	}
}

// TestGarbage: what is no tar stream, or ends early, is an error.
func TestGarbage(t *testing.T) {
	r, dir, _ := place(t)
	write(t, filepath.Join(dir, "d/x"), strings.Repeat("x", 5000))
	var b bytes.Buffer
	if _, err := r.Write(&b, "/d", "d"); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]io.Reader{
		"garbage": strings.NewReader(strings.Repeat("x", 1024)), "half": bytes.NewReader(b.Bytes()[:b.Len()/2]),
	} {
		if err := r.Read(in, "/", false); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
