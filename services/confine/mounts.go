package confine

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/packed"
	"resinos/services/spec"
)

// temporaries are the directories that private-tmp replaces, if the root has them.
var temporaries = [...]string{"/tmp", "/var/tmp"}

// mounts gives this thread, and so the program, a mount namespace of its own and changes it: the packed programs first,
// then read-only paths, because they may be above the others, then the temporary directories, then what is hidden.
//
// Everything is done on descriptors (open_tree, fsmount, move_mount, mount_setattr): a path is looked up once, so
// nobody can replace a part of it by a symlink between the look-up and the mount. This needs Linux 5.12. On an older
// kernel the service does not start, because a plain remount would leave the mounts below a read-only path writable
// without an error.
func (s *self) mounts() error {
	box := s.Confinement
	if !box.OwnMounts() {
		return nil
	}
	cwd, err := unix.Getwd()
	if err != nil {
		return fmt.Errorf("find working directory: %w", err)
	}
	if !s.already { // otherwise the process was started in one of its own
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make mount namespace: %w", err)
		}
	}
	if err := propagate(box, true); err != nil {
		return err
	}
	for _, name := range box.Packed {
		if err := packed.Attach(name); err != nil {
			return err
		}
	}
	for _, path := range box.ReadOnlyPaths {
		if err := each(path, readOnly); err != nil {
			return fmt.Errorf("make %s read-only: %w", path, hint(err))
		}
	}
	if box.PrivateTmp {
		for _, path := range temporaries {
			if err := each("-"+path, privateTmp); err != nil {
				return fmt.Errorf("make private %s: %w", path, hint(err))
			}
		}
	}
	for _, path := range box.HiddenPaths {
		if err := each(path, hide); err != nil {
			return fmt.Errorf("hide %s: %w", path, hint(err))
		}
	}
	if err := propagate(box, false); err != nil {
		return err
	}
	if err := unix.Chdir(cwd); err != nil { // the old one may now be below a mount
		return fmt.Errorf("enter working directory %s: %w", cwd, err)
	}
	return nil
}

// propagate sets which mounts the host and the service see of each other. Before our own mounts a shared tree becomes a
// slave, otherwise they would appear on the host. Afterwards it is shared again, but with the processes that the
// service starts, not with the host: the kernel cannot restore that.
func propagate(box spec.Confinement, before bool) error {
	own := len(box.Packed) > 0 || box.PrivateTmp || len(box.ReadOnlyPaths) > 0 || len(box.HiddenPaths) > 0
	flag := uintptr(unix.MS_SLAVE)
	switch {
	case box.Propagation == spec.Private:
		flag = unix.MS_PRIVATE
	case box.Propagation == spec.Shared && !(own && before):
		flag = unix.MS_SHARED
	}
	if flag != unix.MS_SHARED && !before {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|flag, ""); err != nil {
		return fmt.Errorf("set propagation %s: %w", box.Propagation, err)
	}
	return nil
}

// each opens the path and passes it to do; a missing one that is written with "-" is skipped.
func each(path string, do func(fd int, path string) error) error {
	path, lenient := strings.CutPrefix(path, "-")
	if !filepath.IsAbs(path) {
		return errors.New("not an absolute path")
	}
	fd, err := open(path)
	if lenient && err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd, path)
}

// open opens what the path refers to now. It follows symlinks, as the owner of the service's file expects, except the
// magic ones of /proc, which lead out of the namespace.
func open(path string) (int, error) {
	return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS})
}

// readOnly makes the mount at fd and everything mounted below it read-only, in this namespace.
func readOnly(fd int, path string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if filepath.Clean(path) == "/" { // our root directory would still be the old one, below a new mount
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return attach(tree, fd)
}

func privateTmp(fd int, _ string) error {
	tree, err := tmpfs(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=1777", "size=50%", "nr_inodes=100k")
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, fd)
}

const nothing = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// hide covers what is there with an empty directory or an empty file, both without any rights.
func hide(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return hideFile(fd, filepath.Dir(path))
	}
	tree, err := tmpfs(nothing, "mode=0000", "size=4k", "nr_inodes=2")
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, fd)
}

// hideFile creates the empty file in a tmpfs that is mounted for a moment on the directory of the file: before Linux
// 6.15 no tree can be cloned from one that is not mounted.
func hideFile(fd int, dir string) error {
	tree, err := tmpfs(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "mode=0000", "size=4k",
		"nr_inodes=3")
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	place, err := open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	if err := attach(tree, place); err != nil {
		return err
	}
	file, err := emptyFile(tree)
	// Through the working directory, which mounts restores: any path may be covered, also that of /proc/self/fd.
	if err := errors.Join(err, unix.Fchdir(tree), unix.Unmount(".", unix.MNT_DETACH)); err != nil {
		return err
	}
	defer unix.Close(file)
	return attach(file, fd)
}

// emptyFile returns a mount of a new file in tree.
func emptyFile(tree int) (int, error) {
	if err := unix.Mknodat(tree, "hidden", unix.S_IFREG, 0); err != nil {
		return -1, err
	}
	file, err := unix.OpenTree(tree, "hidden", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	return file, unix.MountSetattr(file, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: nothing})
}

// tmpfs creates a tmpfs that is not mounted yet; options are KEY=VALUE.
func tmpfs(attributes int, options ...string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, option := range slices.Concat(options, []string{"source=tmpfs"}) {
		key, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return -1, fmt.Errorf("configure tmpfs %s: %w", option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("create tmpfs: %w", err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
}

func attach(tree, place int) error {
	return unix.MoveMount(tree, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// hint adds what an operator can do.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf(`%w: write "-" before the path if it may be missing`, err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: needs Linux 5.12", err)
	}
	return err
}
