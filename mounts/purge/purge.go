// Package purge owns the purge of a partition, which removes everything written since its first use: which files are
// removed, in which order, and how an interrupted purge is distinguished from a finished one.
//
// Two empty files on the partition hold the state. A purge needs both the owner's request and the proof that the
// request is meant, and the package never reports a purge as done before the old content is gone from the disk. Read
// Place first.
//
//	armed  flag
//	no     any   first use, or an older system: write the flag, then arm -> yes yes
//	yes    yes   nothing to do
//	yes    no    purge: remove, sync, write the flag -> yes yes; after a power cut this row applies again
package purge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
)

// The two files. The owner removes Flag to request a purge; its name is that of the reference system. Armed
// distinguishes a flag that somebody removed from one that never existed: the data partition of an older system is not
// purged.
const (
	Flag  = "remove_me_to_reset"
	Armed = ".purge-armed"
)

// Place is a partition that can be purged.
type Place struct {
	Name   string   // the owner's name for it: state, data
	Target string   // where it is attached
	Only   []string // what is removed; empty: everything except the two files

	// Request is a file on the partition of another place. With it the owner marks this place when its partition cannot
	// be attached: the next boot then replaces its file system by an empty one without looking into it. Empty: there is
	// no such file.
	Request string
}

// Places lists the places. On the state partition only the directory that the root's paths are bound from belongs to
// the owner. How the last boot ended, or an update in progress, is kept.
func Places() []Place {
	return []Place{
		{Name: "state", Target: "/mnt/state", Only: []string{"root-overlay"}},
		{Name: "data", Target: "/mnt/data", Request: "/mnt/state/purge-data"},
	}
}

// Find returns the place with a name.
func Find(name string) (Place, bool) {
	for _, p := range Places() {
		if p.Name == name {
			return p, true
		}
	}
	return Place{}, false
}

// The flags of FS_IOC_SETFLAGS that prevent the removal of a file (Linux, include/uapi/linux/fs.h).
const immutable, appendOnly = 0x10, 0x20

// spared are the names that are never removed.
var spared = []string{Flag, Armed, "lost+found"}

// Action is the kind of a step.
type Action string

// The kinds of steps.
const (
	Remove Action = "remove"
	Sync   Action = "write out"
	Write  Action = "write"
)

// Step is one step of a purge. Each has reached the disk before the next begins, except removals, which the following
// Sync writes out together.
type Step struct {
	Action Action
	Name   string // in the place; empty for Sync
}

// String is the line that a plan prints.
func (s Step) String() string {
	if s.Name == "" {
		return string(s.Action)
	}
	return fmt.Sprintf("%s %s", s.Action, s.Name)
}

// Plan plans the steps for a place that contains names. With spare the owner's files are kept, because the flag may
// have been lost without the owner: the file system was repaired.
func Plan(p Place, names []string, spare bool) []Step {
	armed, flag := slices.Contains(names, Armed), slices.Contains(names, Flag)
	switch {
	case armed && flag:
		return nil
	case !armed:
		return []Step{{Write, Flag}, {Write, Armed}}
	case spare:
		return []Step{{Write, Flag}}
	}
	var steps []Step
	for _, name := range names {
		if !slices.Contains(spared, name) && (len(p.Only) == 0 || slices.Contains(p.Only, name)) {
			steps = append(steps, Step{Remove, name})
		}
	}
	return append(steps, Step{Action: Sync}, Step{Write, Flag})
}

// Settled reports whether there is nothing to do with a place, at the cost of two look-ups.
func Settled(p Place) bool {
	_, armed := os.Lstat(filepath.Join(p.Target, Armed))
	_, flag := os.Lstat(filepath.Join(p.Target, Flag))
	return armed == nil && flag == nil
}

// Wanted reports whether a place is marked, so that the next boot purges it.
func Wanted(p Place) bool {
	_, armed := os.Lstat(filepath.Join(p.Target, Armed))
	_, flag := os.Lstat(filepath.Join(p.Target, Flag))
	return armed == nil && errors.Is(flag, fs.ErrNotExist)
}

// system is what a purge needs of the operating system, so that a test can cut the power between any two calls.
type system interface {
	list() ([]string, error)
	remove(name string) error // with everything below it
	sync() error              // returns when all removals have reached the disk
	write(name string) error  // creates an empty file, which has reached the disk
}

// Apply does what has to be done with a place and returns the steps: mostly none. If it fails during a purge, the place
// must not be used: it is neither as before nor empty.
func Apply(p Place, spare bool) ([]Step, error) {
	root, err := os.OpenRoot(p.Target)
	if err != nil {
		return nil, fmt.Errorf("purge %s: %w", p.Name, err)
	}
	steps, err := apply(directory{root, p.Target}, p, spare)
	if err = errors.Join(err, root.Close()); err != nil {
		return steps, fmt.Errorf("purge %s: %w", p.Name, err)
	}
	return steps, nil
}

func apply(sys system, p Place, spare bool) ([]Step, error) {
	names, err := sys.list()
	if err != nil {
		return nil, err
	}
	steps := Plan(p, names, spare)
	for _, s := range steps {
		switch s.Action {
		case Remove:
			err = sys.remove(s.Name)
		case Sync:
			err = sys.sync()
		case Write:
			err = sys.write(s.Name)
		}
		if err != nil {
			return steps, fmt.Errorf("%s: %w", s, err)
		}
	}
	return steps, nil
}

// Mark makes the next boot purge a place. When it returns nil, a power cut can no longer undo that.
func Mark(p Place) error {
	root, err := os.OpenRoot(p.Target)
	if err != nil {
		return fmt.Errorf("mark %s: %w", p.Name, err)
	}
	defer root.Close() // nothing was written
	dir := directory{root, p.Target}
	if _, err := root.Lstat(Armed); errors.Is(err, fs.ErrNotExist) {
		err = dir.write(Armed)
		if err != nil {
			return fmt.Errorf("mark %s: %w", p.Name, err)
		}
	}
	if err := root.Remove(Flag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mark %s: %w", p.Name, err)
	}
	if err := dir.syncDir(); err != nil {
		return fmt.Errorf("mark %s: %w", p.Name, err)
	}
	return nil
}

// Ask marks a place that cannot be attached. When it returns nil, a power cut can no longer undo that.
func Ask(p Place) error {
	if err := atomicfile.Write(p.Request, []byte("the next boot makes an empty file system of "+p.Name+
		", and removes this file\n"), 0o600); err != nil {
		return fmt.Errorf("mark %s: %w", p.Name, err)
	}
	return nil
}

// Asked reports whether Ask has marked a place.
func Asked(p Place) bool {
	if p.Request == "" {
		return false
	}
	_, err := os.Lstat(p.Request)
	return err == nil
}

// Answer removes the mark of Ask, once the new file system is on the disk.
func Answer(p Place) error {
	err := os.Remove(p.Request)
	if err == nil {
		err = directory{path: filepath.Dir(p.Request)}.syncDir()
	}
	if err != nil {
		return fmt.Errorf("remove the mark of %s: %w", p.Name, err)
	}
	return nil
}

// directory is the real system: a directory, below which nothing is reached through a symlink.
type directory struct {
	root *os.Root
	path string
}

func (d directory) list() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// remove also removes what somebody made immutable: only root can have done that, and the purge runs as root.
func (d directory) remove(name string) error {
	err := d.root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := fs.WalkDir(d.root.FS(), name, func(path string, _ fs.DirEntry, err error) error {
		d.allowRemoval(path)
		return err
	}); err != nil {
		return err
	}
	return d.root.RemoveAll(name)
}

// allowRemoval clears the flags "immutable" and "append only". If that does not help, the removal of the file fails.
func (d directory) allowRemoval(path string) {
	file, err := d.root.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close() // nothing was written
	if flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags&^(immutable|appendOnly))
	}
}

func (d directory) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}

func (d directory) syncDir() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d directory) write(name string) error {
	file, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close(), d.syncDir())
}
