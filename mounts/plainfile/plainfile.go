// Package plainfile owns how a file is read from a place where anybody may have put anything: only regular files are opened, nothing is
// waited for, and no more is read than can be used.
// Open and Read follow no link in the last part of a path. What a writer may create or replace is for mounts/atomicfile.
// Read Open first.
package plainfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Open opens the regular file at path for reading. Anything else there, a link too, is an error that says what it is, and is not touched:
// to open a FIFO can wait for ever, and to open a device can already do something. The error wraps fs.ErrNotExist if there is nothing.
func Open(path string) (*os.File, error) {
	return open(path, func() (*os.File, error) { return os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0) })
}

// OpenIn is Open of a file below root. Links are followed as a program would that has root as its root directory.
func OpenIn(root, name string) (*os.File, error) {
	return open(name, func() (*os.File, error) {
		dir, err := os.Open(root)
		if err != nil {
			return nil, err
		}
		defer dir.Close() // only a starting point
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(int(dir.Fd()), name, how)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	})
}

// Dir is os.DirFS of which only regular files can be opened, and its directories listed. Links are followed, and what they lead to is
// judged.
func Dir(root string) fs.FS { return dirFS{root, os.DirFS(root)} }

type dirFS struct {
	root string
	all  fs.FS
}

// Open opens a regular file.
func (d dirFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	path := filepath.Join(d.root, name)
	return open(path, func() (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) })
}

// ReadDir lists a directory.
func (d dirFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.all, name) }

// Stat says what is there.
func (d dirFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(d.all, name) }

// Rewrite replaces the content of the regular file at path in place, and waits for the disk if sync is set. It is for files that cannot be
// replaced by a rename, such as bind mounts. Anything else there is an error, and is not written to.
func Rewrite(path, content string, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // a FIFO that nobody reads is an error, and waits for nobody
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("write %s: it is a %s, and only a regular file is written", path, kind(info.Mode()))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteString(content)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Read returns what the regular file at path holds. More than limit bytes is an error.
func Read(path string, limit int) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	return ReadAll(f, limit)
}

// ReadAll reads f to its end. More than limit bytes is an error.
func ReadAll(f *os.File, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", f.Name(), limit)
	}
	return data, err
}

// open looks at a handle, which opens nothing yet, and opens what it stands for if that is a regular file.
func open(path string, find func() (*os.File, error)) (*os.File, error) {
	handle, err := find()
	if err != nil {
		return nil, err
	}
	defer handle.Close() // only a handle
	info, err := handle.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is a %s, and only a regular file is read", path, kind(info.Mode()))
	}
	for {
		// O_NONBLOCK: somebody may hold a lease on it
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(handle.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), path), nil
		case unix.EINTR:
			continue
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "link"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
