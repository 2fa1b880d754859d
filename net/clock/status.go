package clock

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StatusPath is where the daemon keeps its Status, for whoever wants to know without asking; SyncedPath exists exactly while the
// clock is synchronised, so that services can watch for it and scripts can test it.
const (
	StatusPath = "/run/resinos/time.json"
	SyncedPath = "/run/resinos/time-synchronised"
)

// Status is what is known of the time. Numbers are seconds; moments are seconds since the kernel started, 0 for never.
type Status struct {
	Synchronised bool       `json:"synchronised"`
	Since        float64    `json:"since"`                 // that it has been so
	Origin       Origin     `json:"origin"`                // where the time comes from
	By           string     `json:"by,omitempty"`          // name of the server that is followed first
	Address      string     `json:"address,omitempty"`     // of that server
	Stratum      int        `json:"stratum,omitempty"`     // of that server
	Offset       float64    `json:"offset"`                // true time minus system clock when the servers were last heard
	Bound        float64    `json:"bound,omitempty"`       // how wrong the clock could be then, at most
	PPM          float64    `json:"frequency_ppm"`         // how much too slow the oscillator is
	Heard        float64    `json:"heard,omitempty"`       // when a majority last agreed
	Poll         float64    `json:"poll,omitempty"`        // from one round to the next
	Next         float64    `json:"next,omitempty"`        // when the next round begins
	Trouble      string     `json:"trouble,omitempty"`     // why the last round brought nothing
	LastStep     *StepTaken `json:"last_step,omitempty"`   // of this boot, by us
	Steps        int        `json:"steps"`                 // so many
	Start        *Start     `json:"start,omitempty"`       // how the clock began
	Servers      []Server   `json:"servers"`               // in the order of asking
	PID          int        `json:"pid,omitempty"`         // of the daemon; 0 before it has run
	Began        uint64     `json:"pid_started,omitempty"` // start time of that process, in the ticks of /proc/PID/stat
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

// Status describes the machine. The caller adds what only it knows: Start and the process.
func (m *Machine) Status(r Reading) Status {
	ppm, _ := m.filter.Rate()
	s := Status{
		Synchronised: m.synced, Since: m.since.Seconds(), By: m.leader, Offset: m.offset.Seconds(), Bound: m.distance.Seconds(),
		PPM: ppm, Heard: m.heard.Seconds(), Poll: m.poll.Seconds(), Next: m.next.Seconds(), Trouble: m.trouble,
		LastStep: m.last, Steps: m.steps, Servers: []Server{},
	}
	switch {
	case m.jumped:
		s.Origin = FromHand
	case m.ever:
		s.Origin = FromNTP
	}
	ours := r.Real.Sub(r.Raw)
	for _, p := range m.peers {
		one := Server{Name: p.Name, From: p.From, State: p.state, Why: p.why, Heard: p.heard.Seconds(), Reach: fmt.Sprintf("%08b", p.reach)}
		if p.addr.IsValid() {
			one.Address = p.addr.String()
		}
		if p.heard != 0 {
			one.Stratum, one.Delay, one.Bound = p.last.Stratum, p.last.Delay.Seconds(), p.last.distance().Seconds()
			one.Offset = (p.last.Offset - ours).Seconds()
		}
		if p.Name == m.leader {
			s.Address, s.Stratum = one.Address, one.Stratum
		}
		s.Servers = append(s.Servers, one)
	}
	return s
}

// maxStatus bounds what is believed to be a status.
const maxStatus = 256 << 10

// LoadStatus reads a file that a Status was written to. The error wraps fs.ErrNotExist if there is none.
func LoadStatus(path string) (Status, error) {
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

// ProcessStart returns when a process was started, in ticks since the kernel's start: with its number it names the process for ever.
// root is where proc is found.
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

// Ours reports whether this process may set the clock at all: only in the first pid name space. In any other, a test's or a
// container's, the clock is that of the host.
func Ours() bool {
	const first = 0xEFFFFFFC // PROC_PID_INIT_INO in include/linux/proc_ns.h
	var st syscall.Stat_t
	return syscall.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == first
}

// Running reports whether the daemon that wrote the status still runs.
func (s Status) Running(root string) bool {
	began, err := ProcessStart(root, s.PID)
	return err == nil && s.PID > 0 && began == s.Began
}

// SplitServers reads a list of servers as config.json holds it: names or addresses, parted by blanks or commas. What is neither is
// refused. A pool's name is written like a server's.
func SplitServers(text string, valid func(string) bool) (servers, refused []string) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' }) {
		word = strings.TrimSuffix(word, ".")
		switch {
		case !valid(word):
			refused = append(refused, word)
		case !slices.Contains(servers, word):
			servers = append(servers, word)
		}
	}
	return servers, refused
}

// seconds turns a number of a Status back.
func seconds(s float64) time.Duration {
	if s < 0 || s > 9e9 {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
