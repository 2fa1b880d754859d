// Package atomicfile owns the one way a file on flash is replaced: after a power cut the old content or the new is there,
// whole, and never a mixture.
// It never changes a file in place and never leaves its temporary file behind on an error.
// Read Write first.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Suffix ends the name of the file that is written aside. One that is found at boot is the rest of a power cut; the next Write removes it
// if it may be.
const Suffix = ".new"

// Write replaces the file at path by content. When it returns nil, content and name have reached the disk. It fails with ErrKept where
// that would harm another file.
// Two writers of one path must not run at once: they would share the file that is written aside.
func Write(path string, content []byte, mode fs.FileMode) error {
	return WriteTo(Disk{}, path, content, mode)
}

// System is what Write asks of the operating system, so that a test can cut the power between any two calls
// (atomicfiletest.Cut).
type System interface {
	Create(path string, content []byte, mode fs.FileMode) error // returns after fsync
	Rename(from, to string) error                               // returns after fsync of the file under its new name
	SyncDir(path string) error
	Remove(path string) error
}

// WriteTo is Write on another System than Disk.
func WriteTo(sys System, path string, content []byte, mode fs.FileMode) error {
	aside := path + Suffix
	if err := sys.Create(aside, content, mode); errors.Is(err, ErrKept) {
		return fmt.Errorf("write %s: %w", path, err) // removing it is what must not happen
	} else if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, dropAside(sys, aside)))
	}
	if err := sys.Rename(aside, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, errors.Join(err, dropAside(sys, aside)))
	}
	if err := sys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync directory of %s: %w", path, err)
	}
	return nil
}

func dropAside(sys System, aside string) error {
	if err := sys.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Disk is the real System.
type Disk struct{}

// Create writes a file that was not there.
func (Disk) Create(path string, content []byte, mode fs.FileMode) error {
	if err := checkLeftOver(path); err != nil {
		return fmt.Errorf("%w: %w", ErrKept, err)
	}
	// Left-overs of a power cut may be a symlink on a partition that strangers wrote: never follow one.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Rename takes care of FAT, where a folder entry is three things on the disk. The old file is held open until the entry has
// reached the disk, for its blocks are freed with its last reference: an entry must never lead to blocks that are free. And the
// entry itself is written with the file's inode, not with the folder (vfat_rename in the kernel marks it dirty, no more).
func (d Disk) Rename(from, to string) error {
	old, err := os.Open(to)
	if err == nil {
		defer old.Close() // opened for reading: nothing to lose
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.SyncDir(to) // any fsync will do
}

// Remove removes a file.
func (Disk) Remove(path string) error { return os.Remove(path) }

// SyncDir waits until what a folder or file says has reached the disk.
func (Disk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
