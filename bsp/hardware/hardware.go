// Package hardware owns the part of a board file about hardware that a device can set: profiles of its fan, modes of
// its power, and its light. The image builder writes it into the root, and devd and osctl read it there.
//
// It knows no board and no driver: a profile is a list of values for files of sysfs. Read Hardware first.
package hardware

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// File is where an image of a board that names such hardware keeps it.
const File = "/usr/lib/resinos/hardware.json"

// Hardware is the table [hardware] of a board file.
type Hardware struct {
	// LED is the light that identifies the device, below /sys/class/leds.
	LED   string             `json:"led,omitempty" toml:"led"`
	Fan   map[string]Profile `json:"fan,omitempty" toml:"fan"`
	Power map[string]Profile `json:"power,omitempty" toml:"power"`
}

// A Profile is what is written, in this order.
type Profile []Setting

// A Setting is a value for all files below /sys that match a pattern: one at least must.
type Setting struct {
	// Path is a pattern of path.Match, such as devices/system/cpu/cpufreq/policy*/scaling_governor.
	Path  string `json:"path" toml:"path"`
	Value string `json:"value" toml:"value"`
}

// Empty reports whether the board names nothing.
func (h Hardware) Empty() bool { return h.LED == "" && len(h.Fan)+len(h.Power) == 0 }

// Check returns all faults of a table of a board file.
func (h Hardware) Check() error {
	var faults []error
	if h.LED != "" && (!filepath.IsLocal(h.LED) || strings.Contains(h.LED, "/")) {
		faults = append(faults, fmt.Errorf("led %q: want the name of a directory in /sys/class/leds", h.LED))
	}
	for _, kind := range []struct {
		name     string
		profiles map[string]Profile
	}{{"fan", h.Fan}, {"power", h.Power}} {
		for _, name := range slices.Sorted(maps.Keys(kind.profiles)) {
			for _, s := range kind.profiles[name] {
				if _, err := filepath.Match(s.Path, ""); err != nil || !filepath.IsLocal(s.Path) {
					faults = append(faults,
						fmt.Errorf("%s.%s: path %q: want a pattern below /sys", kind.name, name, s.Path))
				}
			}
			if len(kind.profiles[name]) == 0 {
				faults = append(faults, fmt.Errorf("%s.%s: it sets nothing", kind.name, name))
			}
		}
	}
	return errors.Join(faults...)
}

// Encode returns the content of File.
func (h Hardware) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(h, "", "  ")
	return append(text, '\n'), err
}

// Read reads a file that Encode has written. Without the file the board names nothing.
func Read(file string) (Hardware, error) {
	var h Hardware
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err != nil {
		return Hardware{}, fmt.Errorf("read hardware of board %s: %w", file, err)
	}
	return h, nil
}

// Choose returns the profile of a name. The error says that the board has none, or which ones it has.
func Choose(profiles map[string]Profile, name, what string) (Profile, error) {
	if p, found := profiles[name]; found {
		return p, nil
	}
	if len(profiles) == 0 {
		return nil, fmt.Errorf("this board has no %s: its board file names none", what)
	}
	return nil, fmt.Errorf("this board has no %s %q; it has %s", what, name,
		strings.Join(slices.Sorted(maps.Keys(profiles)), ", "))
}

// Apply writes the values of a profile below sys. It goes on after a fault, and returns all faults.
func (p Profile) Apply(sys string) error {
	var faults []error
	for _, s := range p {
		files, err := filepath.Glob(filepath.Join(sys, s.Path))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("this device has no %s", filepath.Join(sys, s.Path))
		}
		faults = append(faults, err)
		for _, file := range files {
			faults = append(faults, write(file, s.Value))
		}
	}
	return errors.Join(faults...)
}

// write writes a value into a file of sysfs, which it never creates.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
