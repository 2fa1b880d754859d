// Package cgroup owns the cgroup v2 directories of the services: one cgroup for each, so that everything that a service
// forks can be found, killed, counted and limited. It needs no controller until a limit needs one. It never decides
// when to kill or what to allow. Read Tree first.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"resinos/services/fault"
)

// Root is the directory of the services' cgroups on the device.
const Root = "/sys/fs/cgroup/resinos"

// Tree is the directory with one cgroup for each service. A cgroup has the name of its service, or NAME/LEAF for a part
// of a service's own subtree. Any goroutine may call the methods.
type Tree struct {
	root string
	path string // of root, as /proc/PID/cgroup writes it
}

// Open creates the tree's root directory if it is missing. The error wraps ErrNoCgroup2 if root is not on a cgroup v2
// file system; the services then run without cgroups.
func Open(root string) (*Tree, error) {
	root = filepath.Clean(root)
	mount, err := mountPoint(filepath.Dir(root))
	if err != nil {
		return nil, fmt.Errorf("open cgroup tree %s: %w", root, err)
	}
	if err := mkdir(root); err != nil {
		return nil, fmt.Errorf("open cgroup tree: %w", err)
	}
	return &Tree{root: root, path: strings.TrimPrefix(root, mount)}, nil
}

// ErrNoCgroup2 reports that a path is not on a cgroup v2 file system.
var ErrNoCgroup2 = errors.New("no cgroup v2 file system")

// mountPoint walks up from dir to the top of its cgroup v2 file system.
func mountPoint(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", err
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", ErrNoCgroup2
	}
	for dir != "/" {
		parent := filepath.Dir(dir)
		if err := unix.Statfs(parent, &st); err != nil {
			return "", err
		}
		if st.Type != unix.CGROUP2_SUPER_MAGIC {
			break
		}
		dir = parent
	}
	return dir, nil
}

func mkdir(path string) error {
	if err := fault.Call("cgroup mkdir"); err != nil {
		return err
	}
	err := unix.Mkdir(path, 0o755) // usually only the last part is missing
	if err == unix.ENOENT {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// read reads a small file of the kernel with three system calls. os.ReadFile makes eleven, four of them for a poller
// that no file here needs, and this is done at every end of a service.
func read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) // nothing was written
	text := make([]byte, 512)
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return text[:n], nil
}

func (t *Tree) file(name, file string) string { return filepath.Join(t.root, name, file) }

// Create creates a new cgroup, in place of an old one of that name, and returns its open directory, in which a process
// can be started. The caller closes it. It fails while a process is in the cgroup.
//
// The cgroup must be new, because since cgroup.kill counts its kills, a process that clone3 starts in a cgroup that was
// ever killed is killed at its start (measured on Linux 6.18; the fork compares the count of the parent's cgroup with
// that of the new one).
func (t *Tree) Create(name string) (*os.File, error) {
	if err := t.Remove(name); err != nil {
		return nil, err
	}
	return t.Join(name)
}

// Join is Create for a cgroup that may contain processes: it creates a new one only if the old one is empty.
func (t *Tree) Join(name string) (*os.File, error) {
	dir := filepath.Join(t.root, name)
	_ = unix.Rmdir(dir) // missing or in use
	if err := mkdir(dir); err != nil {
		return nil, fmt.Errorf("create cgroup: %w", err)
	}
	if err := fault.Call("cgroup open"); err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// Populated reports whether a live process is in the cgroup or below it. A missing cgroup is empty.
func (t *Tree) Populated(name string) (bool, error) {
	if err := fault.Call("cgroup look"); err != nil {
		return false, fmt.Errorf("look into cgroup: %w", err)
	}
	data, err := read(t.file(name, "cgroup.events"))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into cgroup: %w", err)
	}
	return bytes.Contains(data, []byte("populated 1")), nil
}

// Kill sends SIGKILL to every process in the cgroup and below it, including those that are forked meanwhile
// (cgroup.kill). It does not wait for their end. A missing cgroup is no error.
func (t *Tree) Kill(name string) error {
	if err := fault.Call("cgroup kill"); err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	err := os.WriteFile(t.file(name, "cgroup.kill"), []byte("1"), 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// KillAll kills every process of every service.
func (t *Tree) KillAll() error { return t.Kill(".") }

// Procs lists the processes in the cgroup itself, not below it, lowest pid first.
func (t *Tree) Procs(name string) ([]int, error) {
	data, err := os.ReadFile(t.file(name, "cgroup.procs"))
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cgroup: %w", err)
	}
	var pids []int
	for field := range bytes.FieldsSeq(data) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Remove removes the cgroup and the empty cgroups below it, deepest first. It fails while a process is in one of them;
// a missing cgroup is no error.
func (t *Tree) Remove(name string) error {
	if err := unix.Rmdir(filepath.Join(t.root, name)); err == nil || err == unix.ENOENT {
		return nil // nothing below it, or missing
	}
	var dirs []string
	err := filepath.WalkDir(filepath.Join(t.root, name), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil && !gone(err) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// Owner returns the service in whose cgroup the process is; empty if it is in none of ours.
func (t *Tree) Owner(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return ""
	}
	return owner(t.path, string(data))
}

// owner parses the content of /proc/PID/cgroup: of its lines only "0::PATH" is cgroup v2.
func owner(root, text string) string {
	for line := range strings.Lines(text) {
		path, v2 := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !v2 {
			continue
		}
		rest, inside := strings.CutPrefix(path, root+"/")
		if !inside {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	return ""
}

// gone reports whether an error means that the cgroup does not exist: its directory is missing, or it was removed while
// its file was open.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}
