package persist

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a pair of trees to bind between, held by descriptors so that no path is resolved twice.
type Root struct {
	state int // root-overlay on the state partition
	root  int // the root that is bound over
}

// Open opens the state partition that is mounted at state, with its overlay directory, which it creates if missing, and
// the root at root. The caller closes it.
func Open(state, root string) (*Root, error) {
	stateFD, err := unix.Open(state, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", state, err)
	}
	defer unix.Close(stateFD)
	overlay, err := directoryAt(stateFD, Overlay, 0o755)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path.Join(state, Overlay), err)
	}
	rootFD, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", root, err), unix.Close(overlay))
	}
	return &Root{state: overlay, root: rootFD}, nil
}

// Close closes both trees; the binds stay.
func (r *Root) Close() error { return errors.Join(unix.Close(r.state), unix.Close(r.root)) }

// Apply creates the source of b if it is missing, with the content of the root, and binds it over the path in the root.
// An existing bind stays as it is. If something else is in the place of the source, such as a directory instead of a
// file, or a symlink, Apply renames it and creates the bind; the error then reports what was set aside.
func (r *Root) Apply(b Bind) error {
	if err := r.apply(b); err != nil {
		return fmt.Errorf("bind %s: %w", b.Path, err)
	}
	return nil
}

func (r *Root) apply(b Bind) error {
	name := strings.TrimPrefix(b.Path, "/")
	target, err := r.openTarget(b, name)
	if err != nil {
		return fmt.Errorf("open target: %w", err)
	}
	defer unix.Close(target)
	source, err := r.openSource(b.Kind, name)
	var aside error
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		if aside, err = r.makeWay(b.Kind, name); err == nil {
			source, err = r.openSource(b.Kind, name)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		if err = r.create(b, name, target); err == nil {
			source, err = r.openSource(b.Kind, name)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open source: %w", err), aside)
	}
	defer unix.Close(source)
	return errors.Join(bindMount(b.Kind, source, target), aside)
}

// openSource opens the source of a bind. The error is ELOOP or ENOTDIR if something else is in its place.
func (r *Root) openSource(kind Kind, name string) (int, error) {
	if kind == Directory {
		return openBeneath(r.state, name, unix.O_PATH|unix.O_DIRECTORY)
	}
	source, err := openBeneath(r.state, name, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	var have unix.Stat_t
	if err := unix.Fstat(source, &have); err != nil || have.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(source) // an O_PATH handle has nothing to flush
		return -1, cmp.Or(err, error(unix.ENOTDIR))
	}
	return source, nil
}

// makeWay renames the first part of the path that is not what it should be. It follows no symlink. aside is a message
// for people about what was renamed; nothing is lost.
func (r *Root) makeWay(kind Kind, name string) (aside, err error) {
	dir, err := unix.Openat(r.state, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(dir) }() // an O_PATH handle has nothing to flush
	parts := strings.Split(name, "/")
	for i, part := range parts {
		wanted := uint32(unix.S_IFDIR)
		if i == len(parts)-1 && kind == File {
			wanted = unix.S_IFREG
		}
		var have unix.Stat_t
		err := unix.Fstatat(dir, part, &have, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil, nil
		case err != nil:
			return nil, err
		case have.Mode&unix.S_IFMT != wanted:
			to, err := setAside(dir, part)
			if err != nil {
				return nil, fmt.Errorf("set %s aside: %w", strings.Join(parts[:i+1], "/"), err)
			}
			return fmt.Errorf("%s/%s was %s; it was renamed to %s", Overlay, strings.Join(parts[:i+1], "/"),
				kinds[have.Mode&unix.S_IFMT], to), nil
		case i == len(parts)-1:
			return nil, nil
		}
		next, err := openBeneath(dir, part, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		unix.Close(dir)
		dir = next
	}
	return nil, nil
}

var kinds = map[uint32]string{
	unix.S_IFDIR: "a directory", unix.S_IFREG: "a file", unix.S_IFLNK: "a symlink", unix.S_IFIFO: "a pipe",
	unix.S_IFSOCK: "a socket", unix.S_IFBLK: "a device node", unix.S_IFCHR: "a device node",
}

// setAside renames name within dir to a free name.
func setAside(dir int, name string) (to string, err error) {
	for n := range 100 {
		to = fmt.Sprintf("%s.set-aside-%d", name, n+1)
		if err = unix.Renameat2(dir, name, dir, to, unix.RENAME_NOREPLACE); !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return to, err
}

// openTarget opens the path in the root. It creates a missing one, which works only where the root is a tmpfs, such as
// /var/lib. Unlike the state partition the root is ours, so its own symlinks are followed, but not to places outside
// it.
func (r *Root) openTarget(b Bind, name string) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	target, err := unix.Openat2(r.root, name, how)
	if !errors.Is(err, unix.ENOENT) {
		return target, err
	}
	parent, err := directoriesAt(r.root, path.Dir(name))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := makeAt(parent, b, path.Base(name)); err != nil {
		return -1, err
	}
	return unix.Openat2(r.root, name, how)
}

// create creates the source of b under another name and renames it, so that a power cut leaves no incomplete copy that
// would count as existing.
func (r *Root) create(b Bind, name string, factory int) error {
	parent, err := directoriesAt(r.state, path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := path.Base(name)
	aside := "." + base + ".new"
	dir, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", parent))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.RemoveAll(aside); err != nil {
		return err
	}
	if err := makeAt(parent, b, aside); err != nil {
		return err
	}
	if err := copyInto(dir, aside, factory, b.Kind); err != nil {
		return fmt.Errorf("copy factory default: %w", errors.Join(err, dir.RemoveAll(aside)))
	}
	return dir.Rename(aside, base)
}

func makeAt(parent int, b Bind, name string) error {
	if b.Kind == Directory {
		if err := unix.Mkdirat(parent, name, uint32(b.Mode)); err != nil {
			return err
		}
		return chmodAt(parent, name, b.Mode)
	}
	fd, err := unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, uint32(b.Mode))
	if err != nil {
		return err
	}
	return errors.Join(unix.Fchmod(fd, uint32(b.Mode)), unix.Close(fd))
}

// chmodAt sets the permissions that the umask removed.
func chmodAt(parent int, name string, mode fs.FileMode) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fchmod(fd, uint32(mode)), unix.Close(fd))
}

// copyInto copies the regular files, directories and symlinks of the root's content.
func copyInto(dir *os.Root, name string, factory int, kind Kind) error {
	source := fmt.Sprintf("/proc/self/fd/%d", factory)
	if kind == File {
		return copyFile(dir, name, source)
	}
	return fs.WalkDir(os.DirFS(source), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		to, from := path.Join(name, p), path.Join(source, p)
		switch d.Type() {
		case fs.ModeDir:
			info, err := d.Info()
			if err != nil {
				return err
			}
			return dir.Mkdir(to, info.Mode().Perm())
		case fs.ModeSymlink:
			link, err := os.Readlink(from)
			if err != nil {
				return err
			}
			return dir.Symlink(link, to)
		case 0:
			return copyFile(dir, to, from)
		}
		return nil // a socket or device node is not content to copy
	})
}

func copyFile(dir *os.Root, name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	// the content of an empty file is complete, and the first boot should not wait for the disk
	if err == nil && n > 0 {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// openBeneath opens name without following a symlink or leaving dir (RESOLVE_BENEATH): a symlink on the state
// partition, for example at /etc/hostname, must not move the bind to another place.
func openBeneath(dir int, name string, flags uint64) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// directoriesAt creates the directories of name below dir and opens the last one.
func directoriesAt(dir int, name string) (int, error) {
	current, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." {
			continue
		}
		next, err := directoryAt(current, part, 0o755)
		unix.Close(current) // an O_PATH handle has nothing to flush
		if err != nil {
			return -1, fmt.Errorf("%s: %w", part, err)
		}
		current = next
	}
	return current, nil
}

func directoryAt(dir int, name string, mode uint32) (int, error) {
	if err := unix.Mkdirat(dir, name, mode); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EROFS) {
		return -1, err
	}
	return openBeneath(dir, name, unix.O_PATH|unix.O_DIRECTORY)
}

// bindMount attaches the source over the target by descriptor. If the target is the source already, the bind exists.
func bindMount(kind Kind, source, target int) error {
	var from, to unix.Stat_t
	if err := unix.Fstat(source, &from); err != nil {
		return err
	}
	if err := unix.Fstat(target, &to); err != nil {
		return err
	}
	if from.Dev == to.Dev && from.Ino == to.Ino {
		return nil
	}
	wanted := uint32(unix.S_IFREG)
	if kind == Directory {
		wanted = unix.S_IFDIR
	}
	if from.Mode&unix.S_IFMT != wanted || to.Mode&unix.S_IFMT != wanted {
		return fmt.Errorf("source or target is not a %s", kind)
	}
	tree, err := unix.OpenTree(source, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("clone mount: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", target, "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount: %w", err)
	}
	return nil
}
