// Package condition judges the conditions of services: whether a path exists, a key of config.json or a word of the
// kernel command line is set, the board is the one that is named, a device of the hardware is there. It starts and
// stops nothing. Read Judge first.
package condition

import (
	"resinos/services/spec/precondition"

	"os"
	"slices"
	"sync"

	"resinos/bsp/uevent"
	"resinos/init/cmdline"
	"resinos/services/config"
	"resinos/services/osrelease"
)

// facts is what conditions are judged by.
type facts struct {
	config  map[string]string // keys of config.json, nested ones with dots
	cmdline []string          // words of the kernel's command line
	board   string
}

// Judge knows the facts since the boot read them, or since the service files were last read. Several conditions are
// judged at a time, beside the supervisor's loop: each look may wait for a disk. The zero Judge reads the facts when it
// first needs them.
type Judge struct {
	mu    sync.Mutex // guards known
	known *facts
}

// Learn reads the facts again.
func (j *Judge) Learn() { j.Take(config.Load(config.Path)) }

// Take makes facts of the configuration that was loaded.
func (j *Judge) Take(l config.Loaded) {
	f := &facts{config: l.Facts(), board: osrelease.Value("RESIN_BOARD")}
	if text, err := os.ReadFile("/proc/cmdline"); err == nil {
		f.cmdline = cmdline.Words(string(text))
	}
	j.mu.Lock()
	j.known = f
	j.mu.Unlock()
}

// Holds judges one condition; why says what does not hold.
func (j *Judge) Holds(c precondition.Condition) (holds bool, why string) {
	f := j.facts()
	if f == nil && c.Kind != precondition.Path && c.Kind != precondition.Device {
		j.Learn()
		f = j.facts()
	}
	if f.is(c) == c.Not {
		return false, c.String() + " does not hold"
	}
	return true, ""
}

func (j *Judge) facts() *facts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known
}

// is reports whether what the condition names is so, whatever its Not says. A nil facts knows paths and devices.
func (f *facts) is(c precondition.Condition) bool {
	switch c.Kind {
	case precondition.Path:
		_, err := os.Stat(c.Value)
		return err == nil
	case precondition.Config:
		return slices.ContainsFunc(c.Settings(), func(s precondition.Setting) bool { return s.In(f.config) })
	case precondition.Cmdline:
		return slices.Contains(f.cmdline, c.Value)
	case precondition.Board:
		return f.board == c.Value
	case precondition.Device:
		return uevent.There("/sys", c.Value)
	}
	return false
}
