// Package plainfile owns how a file is read from a place where anybody may have put anything: only regular files are opened, nothing is
// waited for, and no more is read than can be used.
// It never follows a link in the last part of a path and never writes.
// Read Open first.
package plainfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
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
