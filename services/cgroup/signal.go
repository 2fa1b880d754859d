package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal sends sig to every process in the cgroup and below it. Unlike Kill it may miss one that is forked meanwhile.
// The error is os.ErrProcessDone if there was none.
func (t *Tree) Signal(name string, sig unix.Signal) error {
	sent := false
	err := filepath.WalkDir(filepath.Join(t.root, name), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		sub, err := filepath.Rel(t.root, path)
		if err != nil {
			return err
		}
		pids, err := t.Procs(sub)
		for _, pid := range pids {
			sent = syscall.Kill(pid, sig) == nil || sent
		}
		return err
	})
	switch {
	case err != nil && !gone(err):
		return fmt.Errorf("signal cgroup: %w", err)
	case !sent:
		return os.ErrProcessDone
	}
	return nil
}
