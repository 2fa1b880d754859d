// Package atomicfiletest owns a disk whose power fails, for tests. It never runs on a device. Read Cut first.
package atomicfiletest

import (
	"errors"
	"io/fs"
	"os"

	"resinos/mounts/atomicfile"
)

// ErrCut is the error of every call after the power cut.
var ErrCut = errors.New("power cut")

// Cut is a real disk whose power fails at call number At, counted from 0: half of that call is done, and nothing of
// later ones.
type Cut struct {
	At    int
	Calls []string // the calls made; the last one that had an effect is the one that was cut
}

var _ atomicfile.System = (*Cut)(nil)

func (c *Cut) step(name string) (dead bool) {
	c.Calls = append(c.Calls, name)
	return len(c.Calls) > c.At
}

// Create writes half of the content when it is cut.
func (c *Cut) Create(path string, content []byte, mode fs.FileMode) error {
	if c.step("create") {
		if len(c.Calls) == c.At+1 {
			_ = os.WriteFile(path, content[:len(content)/2], mode) // an error changes nothing: the power is off
		}
		return ErrCut
	}
	return atomicfile.Disk{}.Create(path, content, mode)
}

// Rename does nothing when it is cut.
func (c *Cut) Rename(from, to string) error {
	if c.step("rename") {
		return ErrCut
	}
	return atomicfile.Disk{}.Rename(from, to)
}

// SyncDir does nothing when it is cut.
func (c *Cut) SyncDir(path string) error {
	if c.step("sync directory") {
		return ErrCut
	}
	return atomicfile.Disk{}.SyncDir(path)
}

// Remove always fails: Write calls it only after a fault, and then the power is off.
func (c *Cut) Remove(string) error { return ErrCut }
