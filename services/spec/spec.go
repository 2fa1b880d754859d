// Package spec owns what a service file may say: the decoded definition of one service, its
// defaults and its faults. It never starts anything, reads no clock and knows no other service;
// whether the named needs exist is the graph's question. Read Spec first.
package spec

import "time"

// Type says when a service counts as up.
type Type string

// The three types. Simple is up as soon as its program runs, Notify when it sends READY=1, and
// Oneshot when it has ended with exit code 0.
const (
	Simple  Type = "simple"
	Notify  Type = "notify"
	Oneshot Type = "oneshot"
)

// Restart says what follows the end of a service nobody asked to stop.
type Restart string

// The restart policies. Always brings it back whatever the exit code, OnFailure unless the code
// was 0, Never leaves it ended (code 0) or failed (anything else), for the owner to see.
const (
	Always    Restart = "always"
	OnFailure Restart = "on-failure"
	Never     Restart = "never"
)

// Log says where standard output and standard error go.
type Log string

// Ring is the log ring through a named pipe; Console leaves the three standard descriptors on the
// console for the program to use as it likes (getty).
const (
	Ring    Log = "ring"
	Console Log = "console"
)

// KillMode says who is killed when a service ends.
type KillMode string

// Group kills everything left in the service's cgroup once its main process is dead. Process
// touches the main process only: its children outlive it (the shims of the container engine).
const (
	Group   KillMode = "group"
	Process KillMode = "process"
)

// Spec is the definition of one service: what its file says, with the defaults filled in.
type Spec struct {
	Name             string            // the file's name without .toml
	Description      string            // one line for people
	Command          []string          // absolute program path and its arguments
	Type             Type              // when it counts as up
	Needs            []string          // must be up before it starts; it stops when one of them stops for good
	Wants            []string          // started with it and before it, if they can be
	After            []string          // only the order, and only among services that start anyway
	Restart          Restart           // what follows its end
	StartTimeout     time.Duration     // how long it may take to be up; 0 is for ever
	StopTimeout      time.Duration     // from SIGTERM to SIGKILL
	OOMScore         int               // oom_score_adj of its processes
	Environment      map[string]string // added to the manager's small default environment
	WorkingDirectory string            // absolute; "/" when not said
	Variants         []string          // image variants that carry it; empty is all
	Log              Log               // where its output goes
	CgroupDelegate   bool              // its main process lives in the leaf "main"; the rest of its cgroup is its own
	KillMode         KillMode          // who is killed when it ends
}

// The defaults of keys that a file leaves out.
const (
	DefaultStopTimeout  = 10 * time.Second
	DefaultStartTimeout = 90 * time.Second // for type notify; the other types wait for ever
)

// defaults returns s with every key that was not set given its standing value.
func (s Spec) defaults(set map[string]bool) Spec {
	if s.Type == "" {
		s.Type = Simple
	}
	if s.Restart == "" {
		s.Restart = Always
		if s.Type == Oneshot {
			s.Restart = Never
		}
	}
	if !set["stop-timeout"] {
		s.StopTimeout = DefaultStopTimeout
	}
	if !set["start-timeout"] && s.Type == Notify {
		s.StartTimeout = DefaultStartTimeout
	}
	if s.WorkingDirectory == "" {
		s.WorkingDirectory = "/"
	}
	if s.Log == "" {
		s.Log = Ring
	}
	if s.KillMode == "" {
		s.KillMode = Group
		if s.CgroupDelegate {
			s.KillMode = Process
		}
	}
	return s
}

// InVariant reports whether an image of this variant carries the service.
func (s Spec) InVariant(variant string) bool {
	if len(s.Variants) == 0 {
		return true
	}
	for _, v := range s.Variants {
		if v == variant {
			return true
		}
	}
	return false
}
