// Package attach owns the mounts: mount entries, the table of the root's pseudo file systems, the kernel's mountinfo,
// loop devices, and the order of detaching at shutdown.
//
// It never decides which partition is mounted where, and never formats or checks a file system. Read Entry first.
package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one file system to attach at one place.
type Entry struct {
	Name    string   `toml:"name"`    // its name in steps and logs
	Source  string   `toml:"source"`  // device node; pseudo file systems repeat their type
	Target  string   `toml:"target"`  // absolute path
	Type    string   `toml:"type"`    // the kernel's name of the file system
	Flags   []string `toml:"flags"`   // words of mount(8): ro, nosuid, nodev, noexec, noatime…
	Options string   `toml:"options"` // passed to the file system unchanged
}

// flagBits are the words that Entry.Flags may hold.
var flagBits = map[string]uintptr{
	"ro":       unix.MS_RDONLY,
	"nosuid":   unix.MS_NOSUID,
	"nodev":    unix.MS_NODEV,
	"noexec":   unix.MS_NOEXEC,
	"noatime":  unix.MS_NOATIME,
	"relatime": unix.MS_RELATIME,
	"sync":     unix.MS_SYNCHRONOUS,
	"dirsync":  unix.MS_DIRSYNC,
}

// Check reports all faults of e.
func (e Entry) Check() error {
	var faults []error
	if !filepath.IsAbs(e.Target) || filepath.Clean(e.Target) != e.Target {
		faults = append(faults, fmt.Errorf("check mount %s: target %q is not a clean absolute path", e.Name, e.Target))
	}
	if e.Type == "" {
		faults = append(faults, fmt.Errorf("check mount %s: type is missing", e.Name))
	}
	if _, err := e.bits(); err != nil {
		faults = append(faults, fmt.Errorf("check mount %s: %w", e.Name, err))
	}
	return errors.Join(faults...)
}

func (e Entry) bits() (uintptr, error) {
	var bits uintptr
	for _, word := range e.Flags {
		bit, known := flagBits[word]
		if !known {
			return 0, fmt.Errorf("unknown flag %q", word)
		}
		bits |= bit
	}
	return bits, nil
}

func (e Entry) source() string {
	if e.Source == "" {
		return e.Type
	}
	return e.Source
}

// String returns the line for e in a plan.
func (e Entry) String() string {
	words := strings.Join(e.Flags, ",")
	if e.Options != "" {
		words = strings.TrimPrefix(words+","+e.Options, ",")
	}
	if words == "" {
		words = "defaults"
	}
	return fmt.Sprintf("mount %s on %s type %s (%s)", e.source(), e.Target, e.Type, words)
}

// Plan returns the wanted entries that are not attached yet, in the given order. An entry counts as attached when
// anything is attached at its target: whoever did that earlier (the initramfs, a test) had a reason, and a second mount
// would only hide it.
func Plan(wanted []Entry, have []Mount) []Entry {
	var missing []Entry
	for _, e := range wanted {
		if _, found := At(have, e.Target); !found {
			missing = append(missing, e)
		}
	}
	return missing
}

// Apply attaches e. It creates the target directory if the file system around it is writable. The error wraps
// fs.ErrNotExist if source or target is missing.
func Apply(e Entry) error {
	bits, err := e.bits()
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", e.source(), e.Target, err)
	}
	if _, err := os.Stat(e.Target); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(e.Target, 0o755); err != nil {
			return fmt.Errorf("mount %s on %s: %w", e.source(), e.Target, err)
		}
	}
	if err := unix.Mount(e.source(), e.Target, e.Type, bits, e.Options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", e.source(), e.Target, err)
	}
	return nil
}

// Ensure attaches e unless it is attached already.
func Ensure(e Entry) error {
	have, err := ReadMounts()
	if err != nil {
		// Without /proc there is no list of mounts; this is how /proc itself is attached.
		return Apply(e)
	}
	for _, missing := range Plan([]Entry{e}, have) {
		return Apply(missing)
	}
	return nil
}
