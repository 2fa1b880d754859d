// Package atomicfiletest owns a disk whose power fails. It is for tests and never runs on a device. Read Cut first.
package atomicfiletest

import (
	"errors"
	"io/fs"
	"os"

	"resinos/mounts/atomicfile"
)

// ErrCut is what every call after the cut returns.
var ErrCut = errors.New("power cut")

// Cut is a real disk whose power fails at call number At, counted from 0: that call half happens, and none after it.
type Cut struct {
	At    int
	Calls []string // what was asked for, the cut call being the last that did anything
}

var _ atomicfile.System = (*Cut)(nil)

func (c *Cut) step(name string) (dead bool) {
	c.Calls = append(c.Calls, name)
	return len(c.Calls) > c.At
}

// Create leaves half of the content when it is cut.
func (c *Cut) Create(path string, content []byte, mode fs.FileMode) error {
	if c.step("create") {
		if len(c.Calls) == c.At+1 {
			_ = os.WriteFile(path, content[:len(content)/2], mode) // what a power cut leaves is all the same
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

// Remove never works: when it is asked for, there is no power to clean up with.
func (c *Cut) Remove(string) error { return ErrCut }
