package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFolderIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "thing")
	var fills atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			err := Folder(t.Context(), dir, func(aside string) error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(aside, "x"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil || fills.Load() != 1 {
		t.Errorf("eight builders filled the folder %d times (%v)", fills.Load(), err)
	}
}

func TestFolderAfterFaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "thing")
	boom := errors.New("disk full")
	err := Folder(t.Context(), dir, func(aside string) error {
		return errors.Join(os.WriteFile(filepath.Join(aside, "half"), nil, 0o644), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("Folder: %v, want the error of fill", err)
	}
	for _, name := range []string{dir, dir + ".new"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there after a fault (%v)", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir+".new", "rest of a killed builder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Folder(t.Context(), dir, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the folder holds %v of a killed builder (%v)", left, err)
	}
}

func TestLockWaitsUntilCancelled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Lock(ctx, file, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("second Lock: %v, want that it waits until cancelled", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = Lock(t.Context(), file, nil); err != nil {
		t.Errorf("Lock after unlock: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}
