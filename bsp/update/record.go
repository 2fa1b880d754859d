// Package update owns the state of an update of the system: the record on the state partition, and what follows from
// the record, the boot variables and the slot that was booted (Settle). It computes and stores this state; it never
// writes a slot, never reboots, and never judges whether a device is healthy. Read Record, then Settle.
//
//	        begin             arm               boots of the slot on trial
//	idle ----------> writing -----> trial ----------------------------------> confirmed
//	                    |             |   not healthy, 3 tries used up,
//	                    |             |   its kernel does not load, by hand
//	                    +-------------+-------------------------------------> failed
//	                     power cut
package update

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/slot"
	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// State is how an attempt stands.
type State string

// The states. The first two are open, the others final.
const (
	Writing   State = "writing"   // the idle slot is being written
	Trial     State = "trial"     // the variables have been switched, or are about to be; it is not confirmed
	Confirmed State = "confirmed" // the device stays with it
	Failed    State = "failed"    // the device stayed with the slot that it had, or went back to it
)

// Cause says in one word why an attempt failed, for programs.
type Cause string

// The causes.
const (
	Interrupted Cause = "interrupted" // before the switch: nothing was ever booted
	NotTried    Cause = "not-tried"   // the bootloader never booted the slot
	KernelFails Cause = "kernel"      // the bootloader could not load its kernel
	RootFails   Cause = "root"        // stage 1 could not attach its root, long after it was confirmed
	TriesUsedUp Cause = "tries"       // booted as often as may be, and never confirmed
	Unhealthy   Cause = "unhealthy"   // it ran, and a check did not hold in time
	ByHand      Cause = "by-hand"     // somebody went back on purpose
)

// Attempt is one update, or one return to the other slot on purpose.
type Attempt struct {
	Version string    `json:"version"` // that was to run
	From    string    `json:"from"`    // that ran before
	Slot    slot.Name `json:"slot"`    // that was switched to
	Digest  string    `json:"digest,omitempty"`
	Index   int64     `json:"rollback_index,omitempty"` // of the version
	State   State     `json:"state"`
	Cause   Cause     `json:"cause,omitempty"`
	Reason  string    `json:"reason,omitempty"` // for people
	Log     []string  `json:"log,omitempty"`    // the end of the log of the boot that failed
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	ArmedIn string    `json:"armed_in,omitempty"` // the boot that switched
	LeftIn  string    `json:"left_in,omitempty"`  // the boot of the slot on trial that gave it up
	Reached []string  `json:"reached,omitempty"`  // boots of the slot on trial that came as far as their services
	Before  Before    `json:"before,omitzero"`    // what the device had before, and has to have again
}

// Before is what a device had when it switched. The new version is healthy only if it has that too.
type Before struct {
	Network    bool     `json:"network,omitempty"`    // a default route
	Containers []string `json:"containers,omitempty"` // APP.SERVICE of those that were up
}

// Open reports whether the attempt has not ended.
func (a Attempt) Open() bool { return a.State == Writing || a.State == Trial }

// Content is what was last written to a slot.
type Content struct {
	Version string `json:"version"`
	Digest  string `json:"digest,omitempty"`
	Index   int64  `json:"rollback_index,omitempty"`
}

// Record is the file of the updates of a device.
type Record struct {
	Format   int                   `json:"format"`
	Index    int64                 `json:"rollback_index,omitempty"` // no version with a lower one is installed
	Slots    map[slot.Name]Content `json:"slots,omitempty"`          // whole slots only
	Refused  []Content             `json:"refused,omitempty"`        // versions that failed, the latest first
	Attempts []Attempt             `json:"attempts,omitempty"`       // the latest first
}

// Path is the record on a device. It lies beside what persists, not in it, as the marker of the last boot does.
const Path = "/mnt/state/update.json"

// The limits of a record: it is written whole each time, and read in the root of a version that may be older.
const (
	format       = 1
	maxRecord    = 256 << 10
	mostAttempts = 20
	mostRefused  = 20
	mostLines    = 40
	longestLine  = 300
)

// Current returns the attempt that has not ended.
func (r *Record) Current() (*Attempt, bool) {
	if len(r.Attempts) == 0 || !r.Attempts[0].Open() {
		return nil, false
	}
	return &r.Attempts[0], true
}

// Add begins an attempt, and forgets the oldest.
func (r *Record) Add(a Attempt) {
	r.Attempts = append([]Attempt{a}, r.Attempts[:min(len(r.Attempts), mostAttempts-1)]...)
}

// Put notes what a slot holds; the zero Content is nothing whole.
func (r *Record) Put(name slot.Name, c Content) {
	if r.Slots == nil {
		r.Slots = make(map[slot.Name]Content)
	}
	if r.Slots[name] = c; c == (Content{}) {
		delete(r.Slots, name)
	}
}

// IsRefused reports whether a version with these bytes has failed on this device.
func (r *Record) IsRefused(digest string) bool {
	return digest != "" && slices.ContainsFunc(r.Refused, func(c Content) bool { return c.Digest == digest })
}

// Allow takes a version off the refused ones: somebody asked for it.
func (r *Record) Allow(digest string) {
	r.Refused = slices.DeleteFunc(r.Refused, func(c Content) bool { return c.Digest == digest })
}

// Abandon ends the current attempt before the switch: the slot was not written, or not whole.
func (r *Record) Abandon(reason string, now time.Time) {
	if a, open := r.Current(); open {
		r.fail(a, Interrupted, reason, now)
	}
}

// confirm ends the current attempt well.
func (r *Record) confirm(a *Attempt, reason string, now time.Time) {
	a.State, a.Reason, a.Ended = Confirmed, reason, now
	r.Index = max(r.Index, a.Index)
	r.Allow(a.Digest)
}

// fail ends an attempt. Bytes that were booted in vain are refused from now on.
func (r *Record) fail(a *Attempt, cause Cause, reason string, now time.Time) {
	if a.State == Writing {
		r.Put(a.Slot, Content{})
	}
	a.State, a.Cause, a.Reason, a.Ended = Failed, cause, reason, now
	if cause == Interrupted || cause == NotTried || a.Digest == "" || r.IsRefused(a.Digest) {
		return
	}
	r.Refused = append([]Content{{Version: a.Version, Digest: a.Digest, Index: a.Index}},
		r.Refused[:min(len(r.Refused), mostRefused-1)]...)
}

// clip keeps a record small, whatever a log holds.
func clip(lines []string) []string {
	lines = slices.Clone(lines[max(0, len(lines)-mostLines):])
	for i, line := range lines {
		lines[i] = line[:min(len(line), longestLine)]
	}
	return lines
}

// Read reads a record. None is an empty one. One that cannot be used is an error beside an empty one: the device goes
// on by what was booted.
func Read(path string) (Record, error) {
	empty := Record{Format: format}
	text, err := plainfile.Read(path, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("read update record: %w", err)
	}
	r, err := Parse(text)
	if err != nil {
		return empty, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Parse decodes a record. Unknown members are ignored: a newer version may have written them.
func Parse(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, fmt.Errorf("parse update record: %w", err)
	}
	if r.Format != format {
		return Record{}, fmt.Errorf("parse update record: format %d, this program reads %d", r.Format, format)
	}
	for _, a := range r.Attempts {
		if !a.Slot.Valid() {
			return Record{}, fmt.Errorf("parse update record: slot %q", a.Slot)
		}
	}
	return r, nil
}

// Write replaces the record, and waits for the disk. It leaves out the oldest attempts if Read would refuse the file
// for its size.
func (r Record) Write(path string) error {
	r.Format = format
	for i := range r.Attempts {
		r.Attempts[i].Log = clip(r.Attempts[i].Log)
	}
	text, err := json.MarshalIndent(r, "", " ")
	for err == nil && len(text) >= maxRecord && len(r.Attempts) > 1 {
		r.Attempts = r.Attempts[:len(r.Attempts)-1]
		text, err = json.MarshalIndent(r, "", " ")
	}
	if err != nil {
		return fmt.Errorf("write update record: %w", err)
	}
	if err := atomicfile.Write(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write update record: %w", err)
	}
	return nil
}

// Same reports whether two records say the same.
func Same(a, b Record) bool {
	a.Format, b.Format = format, format
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// The files of locks on a device: around each change of record and variables, and while a slot is written.
const (
	LockPath    = "/run/resinos/update.lock"
	WritingPath = "/run/resinos/update.writing"
)

// ConfirmedPath exists from the confirmation on until the end of the boot, or from when it was found that there is
// nothing to confirm. PID 1 looks for it.
const ConfirmedPath = "/run/resinos/update.confirmed"

// Held reports whether somebody holds the lock of this file.
func Held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false // nobody has ever held it, in this boot
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Lock takes the lock of a file until the returned function is called. It waits for whoever holds it.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock update record: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
