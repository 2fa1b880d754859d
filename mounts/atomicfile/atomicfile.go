// Package atomicfile owns the one way in which a file on flash is replaced: after a power cut either the old content or
// the new one is there, complete, and never a mixture.
//
// It never changes a file in place and never leaves its temporary file behind on an error. Read Write first.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Suffix is the end of the temporary file's name. If a boot finds such a file, a power cut has left it; the next Write
// removes it if that is safe.
const Suffix = ".new"

// Write replaces the file at path by content. When it returns nil, content and name have reached the disk. It fails
// with ErrKept if replacing the file would damage another one. Two writers of one path must not run at once: they would
// share the temporary file.
func Write(path string, content []byte, mode fs.FileMode) error {
	return WriteTo(Disk{}, path, content, mode)
}

// System is what Write needs of the operating system, so that a test can cut the power between any two calls
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
		return fmt.Errorf("write %s: %w", path, err) // the left-over must not be removed
	} else if err != nil {
		_ = dropAside(sys, aside) // what stays, the next write removes; a second error would only repeat the first
		return fmt.Errorf("write %s: %w", path, err)
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
	// What a power cut left may be a symlink, on a partition that strangers wrote to: never follow one.
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

// Rename renames a file in the way that FAT needs, where a directory entry is three separate writes. The old file is
// held open until the new entry has reached the disk, because its blocks are freed with its last reference, and an
// entry must never refer to free blocks. The entry is written together with the inode of the file, not with the
// directory (vfat_rename in the kernel only marks it dirty).
func (d Disk) Rename(from, to string) error {
	old, err := os.Open(to)
	if err == nil {
		defer old.Close() // nothing was written
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.SyncDir(to) // on other file systems any fsync does
}

// Remove removes a file.
func (Disk) Remove(path string) error { return os.Remove(path) }

// SyncDir waits until the entries of a directory have reached the disk.
func (Disk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
