// Package clockstatus defines what the daemon that keeps the time says of the clock and of each time server, and reads
// the file that says it. Who only wants to know links neither the daemon nor its decisions (package clock). Read
// Status first.
package clockstatus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Path is where the daemon keeps its Status, for whoever wants to know without asking; SyncedPath exists exactly while
// the clock is synchronised, so that services can watch for it and scripts can test it.
const (
	Path       = "/run/resinos/time.json"
	SyncedPath = "/run/resinos/time-synchronised"
)

// Status is what is known of the time. Numbers are seconds; moments are seconds since the kernel started, 0 for never.
type Status struct {
	Synchronised bool    `json:"synchronised"`
	Since        float64 `json:"since"`             // that it has been so
	Origin       Origin  `json:"origin"`            // where the time comes from
	By           string  `json:"by,omitempty"`      // name of the server that is followed first
	Address      string  `json:"address,omitempty"` // of that server
	Stratum      int     `json:"stratum,omitempty"` // of that server
	// true time minus system clock when the servers were last heard
	Offset   float64    `json:"offset"`
	Bound    float64    `json:"bound,omitempty"`       // how wrong the clock could be then, at most
	PPM      float64    `json:"frequency_ppm"`         // how much too slow the oscillator is
	Heard    float64    `json:"heard,omitempty"`       // when a majority last agreed
	Poll     float64    `json:"poll,omitempty"`        // from one round to the next
	Next     float64    `json:"next,omitempty"`        // when the next round begins
	Trouble  string     `json:"trouble,omitempty"`     // why the last round brought nothing
	LastStep *StepTaken `json:"last_step,omitempty"`   // of this boot, by us
	Steps    int        `json:"steps"`                 // so many
	Start    *Start     `json:"start,omitempty"`       // how the clock began
	Servers  []Server   `json:"servers"`               // in the order of asking
	PID      int        `json:"pid,omitempty"`         // of the daemon; 0 before it has run
	Began    uint64     `json:"pid_started,omitempty"` // start time of that process, in the ticks of /proc/PID/stat
}

// StepTaken is a step of the clock.
type StepTaken struct {
	At  float64 `json:"at"`
	By  float64 `json:"by"` // forward
	Why string  `json:"why"`
}

// Start is how the boot set the clock.
type Start struct {
	Origin Origin     `json:"origin"`
	At     time.Time  `json:"at"`              // the time that it was set to
	Build  time.Time  `json:"build"`           // of the image
	Saved  *time.Time `json:"saved,omitempty"` // what the state partition kept
	RTC    *time.Time `json:"rtc,omitempty"`   // what the hardware clock said
	Before time.Time  `json:"before,omitzero"` // what the system clock said
}

// Server is one source.
type Server struct {
	Name    string  `json:"name"`
	From    string  `json:"from"`
	Address string  `json:"address,omitempty"`
	State   State   `json:"state"`
	Why     string  `json:"why,omitempty"` // if it is not used
	Stratum int     `json:"stratum,omitempty"`
	Offset  float64 `json:"offset"` // of its time from the system clock's, when that was last read
	Delay   float64 `json:"delay,omitempty"`
	Bound   float64 `json:"bound,omitempty"` // how wrong it can be
	Heard   float64 `json:"heard,omitempty"` // when it last answered
	Reach   string  `json:"reach"`           // the last eight rounds, the newest last: 1 for an answer
}

// maxStatus bounds what is believed to be a status.
const maxStatus = 256 << 10

// Load reads a file that a Status was written to. The error wraps fs.ErrNotExist if there is none.
func Load(path string) (Status, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Status{}, fmt.Errorf("read status of the clock: %w", err)
	}
	if st.Size() > maxStatus {
		return Status{}, fmt.Errorf("read status of the clock %s: longer than %d bytes", path, maxStatus)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Status{}, fmt.Errorf("read status of the clock: %w", err)
	}
	var s Status
	if err := json.Unmarshal(text, &s); err != nil {
		return Status{}, fmt.Errorf("read status of the clock %s: %w", path, err)
	}
	return s, nil
}

// ProcessStart returns when a process was started, in ticks since the kernel's start: with its number it names the
// process for ever. root is where proc is found.
func ProcessStart(root string, pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// "pid (name) state ppid ... starttime ...", proc_pid_stat(5); the name may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return 0, fmt.Errorf("read start of process %d: its stat is cut", pid)
	}
	return strconv.ParseUint(fields[startTime], 10, 64)
}

// Running reports whether the daemon that wrote the status still runs.
func (s Status) Running(root string) bool {
	began, err := ProcessStart(root, s.PID)
	return err == nil && s.PID > 0 && began == s.Began
}

// State is what became of a server in the last round.
type State string

// The states.
const (
	Unasked     State = "unasked"      // not yet
	Used        State = "used"         // it agrees with the majority
	FalseTicker State = "false-ticker" // the majority says something else
	Undecided   State = "undecided"    // it answered, and there was no majority
	Unfit       State = "unfit"        // it answered what cannot be used
	Silent      State = "silent"       // no answer
	Unresolved  State = "unresolved"   // its name has no address
	Duplicate   State = "duplicate"    // another source leads to the same server
	Refusing    State = "refusing"     // it does not want to be asked, at all or so often
)

// Origin says where the time comes from.
type Origin string

// The origins, as they stand in the file of Status.
const (
	FromBuild Origin = "build" // the image: it cannot be earlier
	FromSaved Origin = "saved" // what the state partition kept
	FromRTC   Origin = "rtc"   // the hardware clock
	// what the system clock said already: the kernel sets it from a hardware clock that it knows early
	FromClock Origin = "clock"
	FromNTP   Origin = "ntp"  // a majority of time servers
	FromHand  Origin = "hand" // somebody has set it since the servers were last heard
)
