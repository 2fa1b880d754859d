package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// TestRemove: the volumes of one app go, and of a link only the link; what a cut has left goes later.
func TestRemove(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	v := Volumes{Dir: t.TempDir()}
	outside := filepath.Join(t.TempDir(), "kept")
	for _, file := range []string{filepath.Join(v.Dir, "shop/db/sub/x"), filepath.Join(v.Dir, "shop/.files/y"),
		filepath.Join(v.Dir, "other/db/x"), filepath.Join(v.Dir, removed+"gone/db/x"), outside} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(v.Dir, "shop/db/link")); err != nil {
		t.Fatal(err)
	}
	mounted := filepath.Join(v.Dir, "shop/db/sub")
	if err := unix.Mount("none", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := v.Remove("shop"); err == nil || !strings.Contains(err.Error(), "mounted on "+mounted) {
		t.Errorf("with a mount: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(v.Dir, "shop/db/link")); err != nil {
		t.Errorf("a refused removal has removed: %v", err)
	}
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.Remove("shop"); err != nil {
			t.Error(err)
		}
	}
	if err := v.Sweep(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(v.Dir)
	if err != nil || len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error("a link was followed")
	}
	for _, name := range []string{"..", "", "../x", ".removed-x", "a/b"} {
		if err := v.Remove(name); err == nil {
			t.Errorf("Remove(%q) did something", name)
		}
	}
}
