package quota

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tag gives everything in the containers' directories below target, now and in the future, the project Containers. It
// creates a directory that is missing, and returns how many files it had to change: none, once it is done.
//
// The content of a directory is changed before the directory itself. A directory with the project is therefore done,
// and after a power cut the next call continues. A file that cannot be changed (a device node, an immutable file) does
// not keep the rest from it.
func Tag(target string) (changed int, err error) {
	var faults []error
	for _, name := range Directories() {
		path := filepath.Join(target, name)
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			faults = append(faults, fmt.Errorf("tag directory of containers: %w", err))
			continue
		}
		n, err := tagDirectory(unix.AT_FDCWD, path)
		changed += n
		faults = append(faults, err)
	}
	return changed, errors.Join(faults...)
}

func tagDirectory(parent int, name string) (changed int, err error) {
	dir, err := open(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	defer dir.Close() // nothing was written
	a, err := read(dir)
	if err != nil || a.tagged(inherit) {
		return 0, err
	}
	var faults []error
	for {
		entries, err := dir.ReadDir(256) // a directory may hold a million entries
		for _, e := range entries {
			n, err := tagEntry(dir, e)
			changed += n
			faults = append(faults, err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return changed, errors.Join(append(faults, err)...)
		}
	}
	if err := a.write(dir, inherit); err != nil {
		return changed, errors.Join(append(faults, err)...)
	}
	return changed + 1, errors.Join(faults...)
}

// tagEntry skips what is neither a file nor a directory: opening it would have a side effect.
func tagEntry(dir *os.File, e fs.DirEntry) (changed int, err error) {
	if e.IsDir() {
		return tagDirectory(int(dir.Fd()), e.Name())
	}
	if !e.Type().IsRegular() {
		return 0, nil
	}
	f, err := open(int(dir.Fd()), e.Name(), unix.O_NONBLOCK)
	if err != nil {
		return 0, err
	}
	defer f.Close() // nothing was written
	a, err := read(f)
	if err != nil || a.tagged(0) {
		return 0, err
	}
	if err := a.write(f, 0); err != nil {
		return 0, err
	}
	return 1, nil
}

// open follows no symlink: containers may have created any.
func open(parent int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// attributes is struct fsxattr (Linux, include/uapi/linux/fs.h).
type attributes struct {
	flags, extent, extents uint32
	project                Project
	copyExtent             uint32
	_                      [8]byte
}

// The kernel's calls, and the flag of a directory whose new files inherit its project.
const (
	getAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit       = 0x200      // FS_XFLAG_PROJINHERIT
)

func (a attributes) tagged(flag uint32) bool { return a.project == Containers && a.flags&flag == flag }

func read(f *os.File) (a attributes, err error) {
	err = a.call(f, getAttributes)
	return a, err
}

func (a attributes) write(f *os.File, flag uint32) error {
	a.project, a.flags = Containers, a.flags|flag
	return a.call(f, setAttributes)
}

func (a *attributes) call(f *os.File, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return fmt.Errorf("tag %s: %w", f.Name(), errno)
	}
	return nil
}
