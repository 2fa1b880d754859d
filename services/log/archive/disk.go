package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxRead is larger than any chunk. It limits the memory for a file whose size is wrong because the file system is
// damaged.
const maxRead = 2 * maxChunk

// disk is what the archive uses of its directory's file system, so that a test can cut the power between any two calls.
// Names are relative to the directory.
type disk interface {
	path() string // for readers
	list(dir string) ([]fs.DirEntry, error)
	size(name string) (int64, error)
	read(name string) ([]byte, error) // no more than maxRead bytes of it
	mkdir(name string) error
	create(name string) (file, error) // replaces a file of this name
	open(name string) (file, error)   // for writing
	rename(from, to string) error
	remove(name string) error
	sync(dir string) error
	close() error
}

// file is one that is written.
type file interface {
	WriteAt(b []byte, off int64) (int, error)
	Truncate(size int64) error
	sync() error           // the content and the size
	same(name string) bool // the file has this name
	Close() error
}

// rootDisk is the real disk: a directory that is held open, so that a later mount over its path changes nothing.
type rootDisk struct {
	root *os.Root
	lock *os.File
	name string
}

// openDisk takes over dir and locks it. The lock is on the directory itself, so that it needs no file.
func openDisk(dir *os.File) (*rootDisk, error) {
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("in use by another process")
		}
		return nil, errors.Join(fmt.Errorf("lock log archive %s: %w", dir.Name(), err), dir.Close())
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log archive %s: %w", dir.Name(), err), dir.Close())
	}
	return &rootDisk{root: root, lock: dir, name: dir.Name()}, nil
}

func (d *rootDisk) close() error { return errors.Join(d.root.Close(), d.lock.Close()) }

func (d *rootDisk) path() string { return d.name }

func (d *rootDisk) list(dir string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	list, err := f.ReadDir(-1)
	return list, errors.Join(err, f.Close())
}

func (d *rootDisk) size(name string) (int64, error) {
	st, err := d.root.Lstat(name)
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "stat", Path: name, Err: errors.New("not a file")}
	}
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (d *rootDisk) read(name string) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRead))
	return b, errors.Join(err, f.Close())
}

func (d *rootDisk) mkdir(name string) error { return d.root.Mkdir(name, 0o700) }

func (d *rootDisk) create(name string) (file, error) {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return rootFile{f, d.root}, nil
}

func (d *rootDisk) open(name string) (file, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return rootFile{f, d.root}, nil
}

func (d *rootDisk) rename(from, to string) error { return d.root.Rename(from, to) }

func (d *rootDisk) remove(name string) error { return d.root.Remove(name) }

func (d *rootDisk) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type rootFile struct {
	*os.File
	root *os.Root
}

func (f rootFile) sync() error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f rootFile) same(name string) bool {
	own, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := f.root.Lstat(name)
	return err == nil && os.SameFile(own, there)
}
