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
	"strings"
)

// Suffix ends the name of the file that is written aside. One that is found at boot is the rest of a power cut and may be removed.
const Suffix = ".new"

// Write replaces the file at path by content. When it returns nil, content and name have reached the disk.
// Two writers of one path must not run at once: they would share the file that is written aside.
func Write(path string, content []byte, mode fs.FileMode) error {
	return write(disk{}, path, content, mode)
}

// system is what write asks of the operating system, so that a test can cut the power between any two calls.
type system interface {
	create(path string, content []byte, mode fs.FileMode) error // returns after fsync
	rename(from, to string) error                               // returns after fsync of the file under its new name
	syncDir(path string) error
	remove(path string) error
}

func write(sys system, path string, content []byte, mode fs.FileMode) error {
	aside := path + Suffix
	if err := sys.create(aside, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, dropAside(sys, aside)))
	}
	if err := sys.rename(aside, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, errors.Join(err, dropAside(sys, aside)))
	}
	if err := sys.syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync folder of %s: %w", path, err)
	}
	return nil
}

func dropAside(sys system, aside string) error {
	if err := sys.remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type disk struct{}

func (disk) create(path string, content []byte, mode fs.FileMode) error {
	if shared, err := sharesBlocks(path, strings.TrimSuffix(path, Suffix)); err != nil || shared {
		return errors.Join(err, errShared)
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

// rename takes care of FAT, where a folder entry is three things on the disk. The old file is held open until the entry has
// reached the disk, for its blocks are freed with its last reference: an entry must never lead to blocks that are free. And the
// entry itself is written with the file's inode, not with the folder (vfat_rename in the kernel marks it dirty, no more).
func (d disk) rename(from, to string) error {
	old, err := os.Open(to)
	if err == nil {
		defer old.Close() // opened for reading: nothing to lose
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return d.syncDir(to) // any fsync will do
}

func (disk) remove(path string) error { return os.Remove(path) }

func (disk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
