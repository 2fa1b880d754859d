package plainfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/plainfile"
)

// TestDir: of a directory only regular files are opened, also by way of a link; what else lies there can be seen.
func TestDir(t *testing.T) {
	dir := stage(t)
	for name, to := range map[string]string{"to-fifo": "fifo", "to-file": "file"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fsys := plainfile.Dir(dir)
	list, err := fs.ReadDir(fsys, ".")
	if err != nil || len(list) < 4 {
		t.Fatalf("ReadDir = %v, %v", list, err)
	}
	for _, e := range list {
		info, err := fs.Stat(fsys, e.Name())
		text, fault := fs.ReadFile(fsys, e.Name())
		if regular := err == nil && info.Mode().IsRegular(); regular != (fault == nil) {
			t.Errorf("%s: Stat %v, %v; ReadFile %q, %v", e.Name(), info, err, text, fault)
		}
	}
	for _, name := range []string{"../x", "/etc/passwd", "no-such"} {
		if f, err := fsys.Open(name); err == nil {
			f.Close()
			t.Errorf("Open(%s) works", name)
		}
	}
}

// TestRewrite: a regular file has the new content, shorter than before too; nothing else is written to, and nobody is
// waited for.
func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	path, fifo, link := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plainfile.Rewrite(path, "short\n", true); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "short\n" {
		t.Errorf("it holds %q, %v", text, err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0) // with a reader it opens
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{fifo, link, dir, filepath.Join(dir, "missing")} {
		if err := plainfile.Rewrite(bad, "x", false); err == nil {
			t.Errorf("Rewrite(%s) works", bad)
		}
	}
	if n, _ := reader.Read(make([]byte, 1)); n > 0 {
		t.Error("the FIFO was written to")
	}
}
