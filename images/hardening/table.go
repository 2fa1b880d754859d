// Package hardening owns the table of what a device closes or protects: ports, rights, settings of the kernel, flags of
// mounts, modes of secrets. It compares a device with the table, and changes nothing on it.
//
// The program observer reads the state on the device, because production images have no shell. Read hardening.toml
// first, then Table.Judge.
package hardening

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/services/sysctl"
)

//go:embed hardening.toml
var table string

// Table is what holds on a device. Rows with a list of variants hold on these only, rows with a mode only while the
// development mode is on or off.
type Table struct {
	Listeners []Listener `toml:"listener"` // nothing else listens
	Mounts    []Mount    `toml:"mount"`    // all others have nosuid, nodev and noexec
	Settings  []Setting  `toml:"setting"`
	Arguments []Argument `toml:"argument"`
	Secrets   []Secret   `toml:"secret"`
	Rights    []Right    `toml:"right"`
	Shells    []string   `toml:"shells"` // no production image has one
	Early     []string   `toml:"early"`  // modules of the initramfs
	Writable  []Writable `toml:"writable"`
	Terminals []Terminal `toml:"terminal"`
}

// Only says where a row holds.
type Only struct {
	In   []string `toml:"variants"` // empty: all
	Mode string   `toml:"mode"`     // open or closed; empty: both
}

// Listener is a socket that others may reach.
type Listener struct {
	Only
	Socket    string // "PROTOCOL ADDRESS:PORT", * being any address, @ the address of a link, and a port of 0 any
	Programs  []string
	Reachable bool   // from other devices, by TCP
	Optional  bool   // an image may be without it
	Why       string // for people
}

// Mount says which of the flags a mount does without.
type Mount struct {
	At    string
	Lacks []string
	Why   string
}

// Setting is a setting of the kernel.
type Setting struct {
	Key   string // with dots; a * stands for one part
	Value string
	Why   string
}

// Argument is a word of the kernel's command line.
type Argument struct {
	Only
	Word string
}

// Secret is a file that only root may read.
type Secret struct {
	Path string // a pattern
	Must bool   // it exists on every device
}

// Right is a capability that few programs have.
type Right struct {
	Name     string
	Number   uint // of capabilities(7)
	Programs []string
	Filtered []string // more programs, but only with a filter of system calls
	Why      string
}

// Writable is a path that every user may write.
type Writable struct {
	Path string // a pattern, with {a,b} for alternatives
	Why  string
}

// Terminal is a serial line that somebody else than PID 1 reads.
type Terminal struct {
	Name     string // below /dev; a pattern as in Writable
	Programs []string
	Why      string
}

// Load returns the table; settings of the kernel that every image makes (services/sysctl) are part of it.
func Load() (Table, error) {
	t, err := Parse("hardening.toml", table)
	if err != nil {
		return t, err
	}
	made, err := sysctl.Table()
	for _, s := range made {
		if !slices.ContainsFunc(t.Settings, func(have Setting) bool { return have.Key == s.Key }) {
			t.Settings = append(t.Settings, Setting{Key: s.Key, Value: s.Value})
		}
	}
	return t, err
}

// Parse reads a table and reports all faults at once.
func Parse(name, text string) (Table, error) {
	var t Table
	meta, err := toml.Decode(text, &t)
	if err != nil {
		return t, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("parse %s: unknown key %s", name, key))
	}
	for _, l := range t.Listeners {
		if l.Why == "" || len(l.Programs) == 0 {
			faults = append(faults, fmt.Errorf("parse %s: listener %q has no programs, or no reason", name, l.Socket))
		}
	}
	for _, m := range t.Mounts {
		if _, err := path.Match(m.At, ""); err != nil || m.Why == "" {
			faults = append(faults, fmt.Errorf("parse %s: mount %q is no pattern, or has no reason", name, m.At))
		}
	}
	for _, w := range t.Writable {
		if w.Why == "" {
			faults = append(faults, fmt.Errorf("parse %s: writable %q has no reason", name, w.Path))
		}
	}
	return t, errors.Join(faults...)
}

// Device is the device that facts are judged for.
type Device struct {
	Variant string
	Open    bool // the development mode is on
	SSH     bool // a key may log in, or anybody: the port is open
}

func (o Only) holds(d Device) bool {
	mode := o.Mode == "" || (o.Mode == "open") == d.Open
	return mode && (len(o.In) == 0 || slices.Contains(o.In, d.Variant))
}

// flags are those that a mount has unless the table says why not.
var flags = []string{"nosuid", "nodev", "noexec"}

// Judge returns what differs from the table, sorted; nothing if the device is as it has to be.
func (t Table) Judge(d Device, f Facts) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	t.judgeSockets(d, f, fault)
	for at, have := range f.Mounts {
		missing := missingFlags(strings.Split(have, ","))
		missing = slices.DeleteFunc(missing, func(flag string) bool { return t.mayLack(at, flag) })
		if len(missing) > 0 {
			fault("mount %s lacks %s: it has %s", at, strings.Join(missing, ","), have)
		}
	}
	for _, path := range f.Special {
		fault("file %s has set-user-ID or set-group-ID", path)
	}
	t.judgeKernel(d, f, fault)
	for path, have := range f.Secrets {
		if have != "0:0 0600" && have != "0:0 0400" {
			fault("secret %s is %s: want 0:0 0600", path, have)
		}
	}
	for _, s := range t.Secrets {
		if _, have := f.Secrets[s.Path]; s.Must && !have {
			fault("secret %s is not there", s.Path)
		}
	}
	for _, r := range t.Rights {
		for _, name := range f.Rights[r.Name] {
			program, filtered := strings.CutSuffix(name, filteredMark)
			if !slices.Contains(r.Programs, program) && !(filtered && slices.Contains(r.Filtered, program)) {
				fault("%s has %s", name, r.Name)
			}
		}
	}
	for _, name := range f.Modules {
		if !slices.Contains(t.Early, name) {
			fault("module %s is no file of the root", name)
		}
	}
	for _, line := range f.Terminals {
		if name, program, _ := strings.Cut(line, " "); !d.Open && program != "init" && !t.mayRead(name, program) {
			fault("terminal: %s reads it", line)
		}
	}
	for _, path := range f.Writable {
		if !slices.ContainsFunc(t.Writable, func(w Writable) bool { return matches(w.Path, path) }) {
			fault("%s: every user may write it", path)
		}
	}
	for _, name := range f.Abstract {
		fault("socket %s has no file", name)
	}
	for _, path := range f.Shells {
		if d.Variant == "production" {
			fault("%s is in a production image", path)
		}
	}
	slices.Sort(faults)
	return faults
}

func (t Table) judgeSockets(d Device, f Facts, fault func(string, ...any)) {
	for _, have := range f.Listeners {
		if !slices.ContainsFunc(t.Listeners, func(l Listener) bool { return l.holds(d) && l.is(have) }) {
			fault("listener %s is not in the table", have)
		}
	}
	for _, l := range t.Listeners {
		if !l.Reachable || l.Optional || !l.holds(d) || strings.HasSuffix(l.Socket, ":22222") && !d.SSH {
			continue
		}
		if !slices.ContainsFunc(f.Listeners, l.is) {
			fault("listener %s is missing", l.Socket)
		}
	}
}

func (t Table) judgeKernel(d Device, f Facts, fault func(string, ...any)) {
	for _, s := range t.Settings {
		for key, have := range f.Settings {
			if ok, _ := path.Match(s.Key, key); ok && !begins(have, s.Value) { // Parse has read it
				fault("setting %s is %s: want %s", key, have, s.Value)
			}
		}
	}
	for _, a := range t.Arguments {
		if a.holds(d) != slices.Contains(f.Arguments, a.Word) {
			fault("command line: %s is there or missing against the table", a.Word)
		}
	}
}

// begins reports whether the words that a setting of the kernel has begin with those that were written: some have more
// than anybody writes, as vm.lowmem_reserve_ratio.
func begins(have, want string) bool {
	h, w := strings.Fields(have), strings.Fields(want)
	return len(h) >= len(w) && slices.Equal(h[:len(w)], w)
}

// is reports whether the row is about a socket as Facts has it.
func (l Listener) is(have string) bool {
	w := strings.SplitN(have, " ", 3)
	if len(w) != 3 || !slices.Contains(l.Programs, w[2]) {
		return false
	}
	protocol, where, _ := strings.Cut(l.Socket, " ")
	if protocol == "packet" {
		return w[0] == protocol
	}
	host, port, _ := cutLast(where, ":")
	haveHost, havePort, _ := cutLast(w[1], ":")
	link := host == "@" && haveHost != "*" && !strings.HasPrefix(haveHost, "127.") && haveHost != "::1"
	return protocol == w[0] && (host == haveHost || link) && (port == havePort || port == "0")
}

func cutLast(text, sep string) (before, after string, found bool) {
	at := strings.LastIndex(text, sep)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(sep):], true
}

func missingFlags(have []string) (missing []string) {
	for _, flag := range flags {
		if !slices.Contains(have, flag) {
			missing = append(missing, flag)
		}
	}
	return missing
}

func (t Table) mayLack(at, flag string) bool {
	return slices.ContainsFunc(t.Mounts, func(m Mount) bool {
		dir, below := strings.CutSuffix(m.At, "/**")
		ok, _ := path.Match(m.At, at) // Parse has read it
		return (ok || below && strings.HasPrefix(at, dir+"/")) && slices.Contains(m.Lacks, flag)
	})
}

func (t Table) mayRead(name, program string) bool {
	return slices.ContainsFunc(t.Terminals, func(row Terminal) bool {
		return matches(row.Name, name) && slices.Contains(row.Programs, program)
	})
}

// matches reports whether a pattern of path.Match, or one of its alternatives in braces, is that of a name.
func matches(pattern, name string) bool {
	before, rest, some := strings.Cut(pattern, "{")
	inner, after, whole := strings.Cut(rest, "}")
	if !some || !whole {
		ok, _ := path.Match(pattern, name) // a bad one is that of no name
		return ok
	}
	return slices.ContainsFunc(strings.Split(inner, ","), func(part string) bool {
		return matches(before+part+after, name)
	})
}

// Reachable returns the TCP ports that another device may find open, sorted.
func (t Table) Reachable(d Device) []uint16 {
	var ports []uint16
	for _, l := range t.Listeners {
		_, text, _ := cutLast(l.Socket, ":")
		port, err := strconv.ParseUint(text, 10, 16)
		if l.Reachable && l.holds(d) && err == nil && strings.HasPrefix(l.Socket, "tcp ") && (port != 22222 || d.SSH) {
			ports = append(ports, uint16(port))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
