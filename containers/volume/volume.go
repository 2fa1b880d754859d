// Package volume owns the parts of the data partition that containers see: the named volumes of apps, and the files and
// directories of the device that an app may bind. It removes a volume only when a person asks. Read Volumes first.
//
// A volume is the directory Dir/APP/NAME. It is filled under another name and renamed when it is complete, so a power
// cut leaves either a complete volume or a directory that the next Create removes.
package volume

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	continuity "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
)

// Dir is where the volumes of all apps are.
const Dir = "/mnt/data/volumes"

// unfinished begins the name of a volume that is being filled; no volume's own name begins so.
const unfinished = ".new-"

// Volumes are the volumes below a directory, and what apps may bind.
type Volumes struct {
	Dir  string // of the volumes
	Apps string // of the apps, each of which may bind what is in its own directory
}

// Path is the directory of a volume of a container, whether it exists or not. A volume without a name belongs to the
// service alone.
func (v Volumes) Path(c app.Container, m app.Mount) string {
	name := m.Source
	if name == "" {
		digest := sha256.Sum256([]byte(m.Target))
		name = cmp.Or(m.Owner, c.Service) + "@" + hex.EncodeToString(digest[:6]) // no name of a volume has a @
	}
	return filepath.Join(v.Dir, c.App, name)
}

// creating is held while a volume is created: two containers may have the same one, and come at the same time.
var creating sync.Mutex

// Exists reports whether the volume at path is there.
func Exists(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, fmt.Errorf("volume %s is not a directory: remove it", path)
	}
	return true, nil
}

// Create makes the volume at path with a copy of what lies at target below root, the root file system of a container
// image: content, owners and modes, as docker does. Without a root, or where it has nothing, the volume is empty.
func Create(path, root, target string) error {
	creating.Lock()
	defer creating.Unlock()
	there, err := Exists(path)
	if err != nil || there {
		return err
	}
	parent, name := filepath.Split(path)
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	temporary := filepath.Join(parent, unfinished+name)
	if err := os.RemoveAll(temporary); err != nil { // of a power cut
		return fmt.Errorf("create volume: %w", err)
	}
	if err := fill(temporary, root, target); err != nil {
		return errors.Join(fmt.Errorf("create volume %s: %w", path, err), os.RemoveAll(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	return atomicfile.Disk{}.SyncDir(parent)
}

func fill(dir, root, target string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if root != "" {
		from, err := continuity.RootPath(root, target) // follows links, never out of root
		if err != nil {
			return err
		}
		if info, err := os.Lstat(from); err == nil && info.IsDir() {
			if err := continuity.CopyDir(dir, from); err != nil {
				return err
			}
		}
	}
	return syncFileSystem(dir)
}

// syncFileSystem brings all that was written below dir to the disk.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	return unix.Syncfs(int(f.Fd()))
}

// offer is a file or directory of the device that any app may bind.
type offer struct {
	path  string
	write bool // it may be written
	made  bool // an empty directory takes its place while nothing has made it: public compose files bind it anyway
}

var offered = []offer{
	{"/dev", true, false}, {"/run/dbus", true, true}, {"/run/udev", false, true},
	{"/proc", false, false}, {"/sys", false, false},
	{"/etc/localtime", false, false}, {"/etc/timezone", false, false}, {"/etc/os-release", false, false},
	{"/etc/hostname", false, false}, {"/etc/ssl", false, false}, {"/usr/share", false, false},
	{"/usr/lib/modules", false, false}, {"/usr/lib/firmware", false, false},
}

// Bind checks what a container wants to see of the device, creates it if the app's file asks for that, and returns its
// path. An app may bind what is in its own directory, and what is offered to all.
func (v Volumes) Bind(c app.Container, m app.Mount) (path string, err error) {
	source := filepath.Clean(m.Source)
	if v.own(c, source) {
		return source, inside(filepath.Join(v.Apps, c.App), source, m.Create)
	}
	// On the device some of these are links into its read-only root.
	if real, err := filepath.EvalSymlinks(source); err == nil {
		source = real
	}
	for _, o := range offered {
		if source != o.path && !strings.HasPrefix(source, o.path+"/") {
			continue
		}
		if !o.write && !m.ReadOnly {
			return "", fmt.Errorf("volumes: %s may only be bound read-only: write %s:%s:ro", m.Source, m.Source,
				m.Target)
		}
		if o.made && m.Create {
			if err := os.MkdirAll(o.path, 0o755); err != nil {
				return "", fmt.Errorf("volumes: create %s: %w", o.path, err)
			}
		}
		return source, inside(o.path, source, false)
	}
	return "", fmt.Errorf("volumes: %s is nothing that a container may see: put it into the directory of the"+
		" app (./NAME)", m.Source)
}

// own reports whether a path is in the directory of the container's app.
func (v Volumes) own(c app.Container, path string) bool {
	dir := filepath.Join(v.Apps, c.App)
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// inside checks that path is there below dir, and that no link lies between: a container that writes there could lead
// the next one anywhere.
func inside(dir, path string, create bool) error {
	relative, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	if create {
		if err := makeInside(dir, relative); err != nil {
			return fmt.Errorf("volumes: create %s: %w", path, err)
		}
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("volumes: %s: %w", path, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, relative, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return fmt.Errorf("volumes: %s is a link, or lies behind one: write the path that it leads to", path)
	case err != nil:
		return fmt.Errorf("volumes: %s: %w", path, err)
	}
	return unix.Close(fd)
}

// makeInside makes the directories of relative that are missing below dir.
func makeInside(dir, relative string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // only looked into
	if _, err := root.Lstat(relative); err == nil {
		return nil // a file stays one
	}
	return root.MkdirAll(relative, 0o755)
}
