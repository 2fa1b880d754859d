// Package plainfile owns reading a file from a place where anybody may have put anything: it opens only regular files,
// never waits, and reads no more than can be used.
//
// Open and Read follow no symlink in the last part of a path. Writing files is the task of mounts/atomicfile. Read Open
// first.
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

// Open opens the regular file at path for reading. For anything else, also a symlink, the error says what it is, and it
// is not opened: opening a FIFO can block for ever, and opening a device can have an effect. The error wraps
// fs.ErrNotExist if there is nothing.
func Open(path string) (*os.File, error) {
	return open(path, func() (*os.File, error) { return os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0) })
}

// OpenIn opens a file below root as Open does. Symlinks are followed as for a program whose root directory is root.
func OpenIn(root, name string) (*os.File, error) {
	return open(name, func() (*os.File, error) {
		dir, err := os.Open(root)
		if err != nil {
			return nil, err
		}
		defer dir.Close() // only a starting point
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(int(dir.Fd()), name, how)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	})
}

// OpenBelow is Open of a file below root. No part of name may be a link, and none leads out of root.
func OpenBelow(root, name string) (*os.File, error) {
	path := filepath.Join(root, name)
	return open(path, func() (*os.File, error) {
		dir, err := os.Open(root)
		if err != nil {
			return nil, err
		}
		defer dir.Close() // only a starting point
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		fd, err := unix.Openat2(int(dir.Fd()), name, how)
		switch {
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("open %s: its path leads over a link: put the file itself there", path)
		case errors.Is(err, unix.EXDEV):
			return nil, fmt.Errorf("open %s: it leads out of %s", path, root)
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	})
}

// Dir returns os.DirFS with only its regular files and the lists of its directories. Symlinks are followed, and their
// target decides.
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

// Stat describes a file.
func (d dirFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(d.all, name) }

// Rewrite replaces the content of the regular file at path in place, and waits for the disk if sync is set. It is for
// files that cannot be replaced by a rename, such as bind mounts. It does not write to anything but a regular file, and
// returns an error for it.
func Rewrite(path, content string, sync bool) error {
	// for a FIFO that nobody reads, open returns an error instead of blocking
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
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

// Read returns the content of the regular file at path. More than limit bytes are an error.
func Read(path string, limit int) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	return ReadAll(f, limit)
}

// ReadAll reads f to its end. More than limit bytes are an error.
func ReadAll(f *os.File, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", f.Name(), limit)
	}
	return data, err
}

// open checks a handle, which opens nothing yet, and opens the file behind it if that is a regular one.
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
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(handle.Fd())),
			unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
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
