// Package cache owns how builders share the cache folder: one makes a thing, the others wait for it, and what is half
// made is never found under its name.
//
// It never deletes what is finished; a cache folder may be removed whole at any time when no builder runs. Read Folder
// first.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Folder returns once dir exists and is whole. If it does not, fill is called with an empty folder beside it, which takes
// its name when fill succeeds and is removed otherwise. The rest of a killed builder is removed too.
func Folder(ctx context.Context, dir string, fill func(dir string) error) (err error) {
	if exists(dir) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := Lock(ctx, dir+".lock", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(dir) { // another builder made it meanwhile
		return nil
	}
	aside := dir + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("clear the rest of an earlier run: %w", err)
	}
	if err := os.Mkdir(aside, 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	if err := fill(aside); err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	if err := os.Rename(aside, dir); err != nil {
		return errors.Join(fmt.Errorf("finish cache folder: %w", err), os.RemoveAll(aside))
	}
	return nil
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// Lock takes the lock of file, waiting for another process that holds it; waiting, if not nil, is called once when it has
// to. The lock ends with the process or with unlock; the file stays.
func Lock(ctx context.Context, file string, waiting func()) (unlock func() error, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for another builder that holds %s: %w", file, context.Cause(ctx)), f.Close())
		case <-retry.C:
		}
	}
}
