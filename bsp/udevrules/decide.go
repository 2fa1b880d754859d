package udevrules

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Device is one device as the kernel reports it.
type Device struct {
	Action string            // "add", "change", ...
	Path   string            // below /sys
	Node   string            // below /dev; empty: none
	Env    map[string]string // of the event
}

// Sys is what rules read of a device: an attribute, the target of a link such as driver, the next device above it.
type Sys interface {
	Attribute(device, name string) (string, bool)
	Link(device, name string) string // the last element of the target; empty: there is no such link
	Above(device string) string      // empty: there is none
}

// An Effect is what the rules want for one device. Modes and owners are -1 if nothing is said.
type Effect struct {
	Mode, Owner, Group int
	Links              []string    // names of the node below /dev
	Writes             []Attribute // in this order
}

// An Attribute is a value for a file below the directory of a device.
type Attribute struct{ Name, Value string }

// None reports whether the rules say nothing of a device.
func (e Effect) None() bool {
	return e.Mode < 0 && e.Owner < 0 && e.Group < 0 && len(e.Links) == 0 && len(e.Writes) == 0
}

// String returns the effect on one line.
func (e Effect) String() string {
	var parts []string
	if e.Mode >= 0 {
		parts = append(parts, fmt.Sprintf("mode %04o", e.Mode))
	}
	if e.Owner >= 0 {
		parts = append(parts, fmt.Sprintf("owner %d", e.Owner))
	}
	if e.Group >= 0 {
		parts = append(parts, fmt.Sprintf("group %d", e.Group))
	}
	for _, l := range e.Links {
		parts = append(parts, "link "+l)
	}
	for _, w := range e.Writes {
		parts = append(parts, fmt.Sprintf("write %q to %s", w.Value, w.Name))
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}

// view is one device while its rules are judged.
type view struct {
	device  Device
	sys     Sys
	env     map[string]string // with what rules have assigned
	matched string            // the device at which the keys for parents have matched
}

func (v *view) kernel() string {
	if v.device.Path == "" {
		return ""
	}
	return path.Base(v.device.Path)
}

// attrHereOrAbove is the attribute of the device, else of the parent that matched.
func (v *view) attrHereOrAbove(name string) string {
	if v.sys == nil {
		return ""
	}
	for _, at := range []string{v.device.Path, v.matched} {
		if value, found := v.sys.Attribute(at, name); at != "" && found {
			return value
		}
	}
	return ""
}

// Decide returns what rules want for a device. The error names what a rule says that this device makes impossible; the
// effect is then that of the other assignments.
func Decide(rules []Rule, d Device, sys Sys) (Effect, error) {
	e := Effect{Mode: -1, Owner: -1, Group: -1}
	v := &view{device: d, sys: sys, env: map[string]string{}}
	for key, value := range d.Env {
		v.env[key] = value
	}
	var faults []error
	goal := ""
	var file string
	for _, r := range rules {
		if r.file != file {
			file, goal = r.file, ""
		}
		if goal != "" && r.label != goal {
			continue
		}
		goal = ""
		if !v.holds(r.matches) {
			continue
		}
		for _, a := range r.assigns {
			if err := v.assign(a, &e); err != nil {
				faults = append(faults, fmt.Errorf("%s:%d: %w", r.file, r.line, err))
			}
		}
		goal = r.jump
	}
	if d.Node == "" { // there is nothing to give them to
		e.Mode, e.Owner, e.Group, e.Links = -1, -1, -1, nil
	}
	return e, errors.Join(faults...)
}

// holds reports whether all matches hold: those for parents at one and the same device.
func (v *view) holds(all []match) bool {
	above := false
	for _, m := range all {
		if m.parents {
			above = true
		} else if !v.here(m) {
			return false
		}
	}
	v.matched = ""
	if !above {
		return true
	}
	for at := v.device.Path; at != ""; at = v.sys.Above(at) {
		if !slices.ContainsFunc(all, func(m match) bool { return m.parents && !v.at(m, at) }) {
			v.matched = at
			return true
		}
	}
	return false
}

// here judges a match of the device itself.
func (v *view) here(m match) bool {
	switch m.key {
	case "ACTION":
		return m.holds(v.device.Action)
	case "DEVPATH":
		return m.holds(v.device.Path)
	case "ENV":
		return m.holds(v.env[m.of])
	case "KERNEL", "SUBSYSTEM", "DRIVER", "ATTR":
		m.key += "S"
		return v.at(m, v.device.Path)
	}
	return false
}

// at judges a match of the device at a path.
func (v *view) at(m match, device string) bool {
	switch m.key {
	case "KERNELS":
		return m.holds(path.Base(device))
	case "SUBSYSTEMS":
		return m.holds(v.sys.Link(device, "subsystem"))
	case "DRIVERS":
		return m.holds(v.sys.Link(device, "driver"))
	}
	value, found := v.sys.Attribute(device, m.of)
	return found && m.holds(value) // udev: an attribute that is missing matches neither == nor !=
}

// assign takes one assignment into the effect.
func (v *view) assign(a assign, e *Effect) error {
	safe := asIs
	if a.key == "SYMLINK" {
		safe = oneName
	}
	value, err := expand(a.value, v, safe)
	if err != nil {
		return err
	}
	switch a.key {
	case "MODE":
		n, err := mode(value)
		if err != nil {
			return err
		}
		e.Mode = int(n)
	case "OWNER":
		e.Owner, _ = strconv.Atoi(value) // Parse made it a number
	case "GROUP":
		e.Group, _ = strconv.Atoi(value)
	case "ENV":
		v.env[a.of] = value
	case "ATTR":
		e.Writes = append(e.Writes, Attribute{a.of, value})
	case "SYMLINK":
		return e.link(value, a.adds)
	}
	return nil
}

// link adds the names of a SYMLINK, which blanks separate.
func (e *Effect) link(value string, adds bool) error {
	if !adds {
		e.Links = nil
	}
	for name := range strings.FieldsSeq(value) {
		name = clean(name)
		if !filepath.IsLocal(name) || name == "." {
			return fmt.Errorf("SYMLINK %q: want a name below /dev", name)
		}
		if !slices.Contains(e.Links, name) {
			e.Links = append(e.Links, name)
		}
	}
	return nil
}

// clean replaces what a name below /dev should not have, as udev does: an attribute of a device is a stranger's text.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("#+-.:=@_/", r) {
			return r
		}
		return '_'
	}, name)
	return path.Clean(name)
}
