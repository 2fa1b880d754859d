// Package treetar copies files into and out of the root of a container, as tar streams, for osctl cp. The root is a
// descriptor, and the kernel resolves each path below it (openat2 with RESOLVE_IN_ROOT): no link that a program in the
// container makes, even while files are copied, leads out of the root. It never runs anything of the container. Read
// Root first.
package treetar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root is a directory that paths are below, whatever links lie on the way.
type Root struct {
	dir   *os.File
	users users
}

// Open opens a directory as a root. The caller closes it.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{dir: os.NewFile(uintptr(fd), dir)}, nil
}

// Close closes the root.
func (r *Root) Close() error { return r.dir.Close() }

// open opens a path in the root; a link as its last part is followed, within the root, unless flags say otherwise.
func (r *Root) open(name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(r.dir.Fd()), path.Join("/", name), &how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // a rename elsewhere
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// IsDir reports whether name is a directory, or a link to one.
func (r *Root) IsDir(name string) bool {
	f, err := r.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	_ = f.Close() // only looked at
	return true
}

// Exists reports whether there is a file of this name, be it a link.
func (r *Root) Exists(name string) bool {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	_ = f.Close() // only looked at
	return true
}

// Write writes the file or the directory at name, with all below it, as a tar stream in which it is called as. Only
// files, directories and links are copied; the others are counted.
func (r *Root) Write(w io.Writer, name, as string) (others int, err error) {
	f, err := r.open(name, unix.O_PATH)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	out := &writer{tar: tar.NewWriter(w), users: r.users}
	if err := out.add(f, as); err != nil {
		return out.others, err
	}
	return out.others, out.tar.Close()
}

type writer struct {
	tar    *tar.Writer
	users  users
	others int
}

// add adds what f, an O_PATH descriptor, stands for.
func (w *writer) add(f *os.File, as string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	h := &tar.Header{Name: as, Mode: int64(st.Mode & 0o7777), Uid: w.users.shown(st.Uid),
		Gid: w.users.shown(st.Gid), ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.file(f, h, st.Size)
	case unix.S_IFDIR:
		return w.dir(f, h)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", buf)
		if err != nil {
			return &fs.PathError{Op: "read link", Path: f.Name(), Err: err}
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(buf[:n])
		return w.tar.WriteHeader(h)
	}
	w.others++ // a device, a FIFO, a socket
	return nil
}

// again opens for reading what an O_PATH descriptor stands for.
func again(f *os.File, flags int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags|unix.O_NONBLOCK, 0)
}

func (w *writer) file(f *os.File, h *tar.Header, size int64) error {
	in, err := again(f, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	h.Typeflag, h.Size = tar.TypeReg, size
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, io.LimitReader(in, size)) // a program may write it meanwhile
	if err == nil && n < size {
		_, err = io.CopyN(w.tar, zeros{}, size-n)
	}
	return err
}

// zeros stand for what was cut from a file while it was copied.
type zeros struct{}

// Read reads zeros.
func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (w *writer) dir(f *os.File, h *tar.Header) error {
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	list, err := again(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	names, err := list.Readdirnames(-1)
	_ = list.Close() // only read
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		fd, err := unix.Openat(int(f.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue // removed meanwhile
		}
		if err != nil {
			return &fs.PathError{Op: "open", Path: path.Join(f.Name(), name), Err: err}
		}
		one := os.NewFile(uintptr(fd), path.Join(f.Name(), name))
		err = w.add(one, path.Join(h.Name, name))
		_ = one.Close() // only read
		if err != nil {
			return err
		}
	}
	return nil
}

// inside is a name of a tar stream without what would lead out of its directory.
func inside(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Read writes what a tar stream holds below the directory into, which is there. What is there is replaced, directories
// are kept. Owners are those of the stream only with owners.
func (r *Root) Read(from io.Reader, into string, owners bool) error {
	return r.users.as(func() error { return r.read(from, into, owners) })
}

func (r *Root) read(from io.Reader, into string, owners bool) error {
	stream := tar.NewReader(from)
	for {
		h, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar stream: %w", err)
		}
		name := inside(h.Name)
		if name == "" {
			continue // the directory itself
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Join(into, inside(h.Linkname))
		}
		h.Uid, h.Gid = r.users.real(h.Uid), r.users.real(h.Gid)
		if err := r.put(stream, h, path.Join(into, path.Dir(name)), path.Base(name), owners); err != nil {
			return err
		}
	}
}

// put makes one file of a stream in a directory.
func (r *Root) put(stream io.Reader, h *tar.Header, dir, name string, owners bool) error {
	parent, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close() // only looked into
	fd, full := int(parent.Fd()), path.Join(dir, name)
	fail := func(op string, err error) error { return &fs.PathError{Op: op, Path: full, Err: err} }
	if h.Typeflag == tar.TypeDir {
		if err := unix.Mkdirat(fd, name, 0o700); errors.Is(err, unix.EEXIST) {
			return nil // it keeps its owner and mode; what is no directory is found with what is to lie in it
		} else if err != nil {
			return fail("make directory", err)
		}
		n, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail("open", err)
		}
		return finish(os.NewFile(uintptr(n), full), h, owners)
	}
	if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail("replace", err)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n, err := unix.Openat(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return fail("create", err)
		}
		f := os.NewFile(uintptr(n), full)
		if _, err := io.Copy(f, stream); err != nil {
			_ = f.Close() // it is not whole anyway
			return err
		}
		return finish(f, h, owners)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, fd, name); err != nil {
			return fail("make link", err)
		}
		if owners {
			if err := unix.Fchownat(fd, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return fail("change owner", err)
			}
		}
	case tar.TypeLink:
		target, err := r.open(h.Linkname, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer target.Close() // only linked
		if err := unix.Linkat(int(target.Fd()), "", fd, name, unix.AT_EMPTY_PATH); err != nil {
			return fail("make hard link", err)
		}
	default:
		return fail("create", errors.New("only files, directories and links are copied"))
	}
	return nil
}

// finish gives a new file or directory its owner, mode and time, and closes it. It works on the descriptor: the name
// may be a link by now that leads anywhere.
func finish(f *os.File, h *tar.Header, owners bool) error {
	mode := uint32(h.Mode & 0o777) // set-user-id of somebody else's file would be root's
	var err error
	if owners {
		mode = uint32(h.Mode & 0o7777)
		err = unix.Fchown(int(f.Fd()), h.Uid, h.Gid)
	}
	if err == nil { // after the change of owner, which takes set-user-id bits away
		err = unix.Fchmod(int(f.Fd()), mode)
	}
	if err == nil {
		at := unix.NsecToTimeval(h.ModTime.UnixNano())
		err = unix.Futimes(int(f.Fd()), []unix.Timeval{at, at})
	}
	if err != nil {
		err = &fs.PathError{Op: "finish", Path: f.Name(), Err: err}
	}
	return errors.Join(err, f.Close())
}
