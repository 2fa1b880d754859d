// Package clockstatus defines the status of the clock and of each time server, and reads the file with it. A program
// that only reads the status links neither the daemon nor its decisions (package clock). Read Status first.
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

// Path is the file to which the daemon writes its Status. SyncedPath exists exactly while the clock is synchronised, so
// that services can watch for it and scripts can test it.
const (
	Path       = "/run/resinos/time.json"
	SyncedPath = "/run/resinos/time-synchronised"
)

// Status is the status of the clock. Numbers are seconds; points in time are seconds since the kernel started, 0 for
// never.
type Status struct {
	Synchronised bool    `json:"synchronised"`
	Since        float64 `json:"since"`             // when this state began
	Origin       Origin  `json:"origin"`            // source of the time
	By           string  `json:"by,omitempty"`      // name of the server that is followed first
	Address      string  `json:"address,omitempty"` // of that server
	Stratum      int     `json:"stratum,omitempty"` // of that server
	// true time minus system clock when the servers last answered
	Offset   float64    `json:"offset"`
	Bound    float64    `json:"bound,omitempty"`       // the largest error that the clock could have then
	PPM      float64    `json:"frequency_ppm"`         // how much too slow the oscillator is
	Heard    float64    `json:"heard,omitempty"`       // when a majority last agreed
	Poll     float64    `json:"poll,omitempty"`        // from one round to the next
	Next     float64    `json:"next,omitempty"`        // when the next round begins
	Trouble  string     `json:"trouble,omitempty"`     // why the last round had no result
	LastStep *StepTaken `json:"last_step,omitempty"`   // by netd, in this boot
	Steps    int        `json:"steps"`                 // their number in this boot
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
	Saved  *time.Time `json:"saved,omitempty"` // the saved time
	RTC    *time.Time `json:"rtc,omitempty"`   // time of the hardware clock
	Before time.Time  `json:"before,omitzero"` // time of the system clock
}

// Server is one source.
type Server struct {
	Name    string  `json:"name"`
	From    string  `json:"from"`
	Address string  `json:"address,omitempty"`
	State   State   `json:"state"`
	Why     string  `json:"why,omitempty"` // why it is not used
	Stratum int     `json:"stratum,omitempty"`
	Offset  float64 `json:"offset"` // of its time from that of the system clock, when it last answered
	Delay   float64 `json:"delay,omitempty"`
	Bound   float64 `json:"bound,omitempty"` // its largest possible error
	Heard   float64 `json:"heard,omitempty"` // when it last answered
	Reach   string  `json:"reach"`           // the last eight rounds, the newest last; 1: it answered
}

// maxStatus limits the size of a status file.
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

// ProcessStart returns when a process was started, in ticks since kernel start. Together with the number of the process
// it identifies the process for ever. root is the directory with proc.
func ProcessStart(root string, pid int) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// "pid (name) state ppid ... starttime ...", proc_pid_stat(5); the name may contain anything.
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

// State is the state of a server after the last round.
type State string

// The states.
const (
	Unasked     State = "unasked"      // not yet
	Used        State = "used"         // it agrees with the majority
	FalseTicker State = "false-ticker" // the majority contradicts it
	Undecided   State = "undecided"    // it answered, and there was no majority
	Unfit       State = "unfit"        // its answer cannot be used
	Silent      State = "silent"       // no answer
	Unresolved  State = "unresolved"   // its name has no address
	Duplicate   State = "duplicate"    // another source leads to the same server
	Refusing    State = "refusing"     // it refuses to be asked, at all or so often
)

// Origin is the source of the time.
type Origin string

// The origins, as in the status file.
const (
	FromBuild Origin = "build" // the image: the time cannot be earlier
	FromSaved Origin = "saved" // the saved time
	FromRTC   Origin = "rtc"   // the hardware clock
	// the system clock: the kernel sets it from a hardware clock with an early driver
	FromClock Origin = "clock"
	FromNTP   Origin = "ntp"  // a majority of time servers
	FromHand  Origin = "hand" // somebody has set it since the servers last answered
)
