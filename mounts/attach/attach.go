// Package attach owns what is attached where: mount entries, the table of the root's pseudo file systems, the kernel's mountinfo,
// loop devices, and the order in which all of it comes off again at shutdown.
// It never decides which partition belongs at which place and never formats or checks a file system.
// Read Entry first.
package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is one file system that is wanted at one place.
type Entry struct {
	Name    string   `toml:"name"`    // what steps and logs call it
	Source  string   `toml:"source"`  // device node; pseudo file systems repeat their type
	Target  string   `toml:"target"`  // absolute path
	Type    string   `toml:"type"`    // kernel's name of the file system
	Flags   []string `toml:"flags"`   // words of mount(8): ro, nosuid, nodev, noexec, noatime…
	Options string   `toml:"options"` // handed to the file system as it is
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

// Check reports everything that is wrong with e.
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

// String is the line that a plan prints for e.
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

// Plan returns the wanted entries that are not there yet, in the given order. An entry is there when anything is attached
// at its target: who came before (the initramfs, a test) had a reason, and covering a mount would only hide it.
func Plan(wanted []Entry, have []Mount) []Entry {
	var missing []Entry
	for _, e := range wanted {
		if _, found := At(have, e.Target); !found {
			missing = append(missing, e)
		}
	}
	return missing
}

// Apply attaches e. The target folder is created when the file system around it can be written.
// The error wraps fs.ErrNotExist when source or target is missing.
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

// Ensure attaches e unless it is attached already, so that it may be called twice.
func Ensure(e Entry) error {
	have, err := ReadMounts()
	if err != nil {
		// Without /proc there is nothing to compare with; this is how /proc itself gets attached.
		return Apply(e)
	}
	for _, missing := range Plan([]Entry{e}, have) {
		return Apply(missing)
	}
	return nil
}
