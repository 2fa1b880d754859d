package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
	"resinos/mounts/atomicfile/atomicfiletest"
	"resinos/mounts/testenv"
)

func TestWriteSurvivesCutAtEveryStep(t *testing.T) {
	order := []string{"create", "rename", "sync directory"}
	for at := 0; at <= len(order); at++ {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := atomicfile.Write(path, []byte("the old content"), 0o600); err != nil {
			t.Fatal(err)
		}
		cut := &atomicfiletest.Cut{At: at}
		err := atomicfile.WriteTo(cut, path, []byte("the new content"), 0o600)
		if (err == nil) != (at == len(order)) {
			t.Errorf("cut at call %d: error %v", at, err)
		}
		if !slices.Equal(cut.Calls, order[:min(at+1, len(order))]) {
			t.Errorf("cut at call %d: calls %q, want a prefix of %q", at, cut.Calls, order)
		}
		got, err := os.ReadFile(path)
		if s := string(got); err != nil || s != "the old content" && s != "the new content" {
			t.Errorf("cut at call %d: file holds %q, %v", at, s, err)
		}
		if err := atomicfile.Write(path, []byte("after the cut"), 0o600); err != nil {
			t.Errorf("cut at call %d: next write: %v", at, err)
		}
	}
}

func TestWriteDoesNotFollowLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "shadow")
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(victim, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path+atomicfile.Suffix); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "secret" {
		t.Errorf("the link's target now holds %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", info.Mode(), err)
	}
}

func TestWriteOnFullDiskKeepsOldFile(t *testing.T) {
	testenv.NeedRoot(t, "a small tmpfs")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "state")
	if err := atomicfile.Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(path, make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Write of 128 KiB on a 64 KiB disk = %v, want ENOSPC", err)
	}
	if got, err := os.ReadFile(path); string(got) != "old" {
		t.Errorf("file holds %q, %v, want the old content", got, err)
	}
	if _, err := os.Stat(path + atomicfile.Suffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("temporary file is left behind: %v", err)
	}
}
