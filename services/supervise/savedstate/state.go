// Package savedstate owns the format in which PID 1 writes the state of its services before it re-executes itself, and
// reads it afterwards: JSON with a version, beside a list of descriptors that the JSON refers to by position. It
// decides nothing about services. Read State first.
package savedstate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	"resinos/services/boottime"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// Version is the version of the format. A state of another version cannot be read: the caller starts all services
// again.
const Version = 1

// State is everything that the next life of PID 1 must know of the services. Times are counted from the start of the
// kernel (CLOCK_BOOTTIME), 0 is no time. Files are positions in a list of descriptors.
type State struct {
	Version  int       `json:"version"`
	Ending   bool      `json:"ending"`
	Notify   *int      `json:"notify,omitempty"` // the readiness socket
	Services []Service `json:"services"`
	Exits    []Exit    `json:"exits,omitempty"` // the reaper has seen them, and no service has been told yet
}

// Service is one service with what PID 1 keeps for it.
type Service struct {
	Spec    spec.Spec `json:"spec"`
	Removed bool      `json:"removed,omitempty"` // its file is gone

	Phase                     string        `json:"phase"`
	Since, Deadline, UpSince  time.Duration `json:",omitzero"`
	BeganAt, Window           time.Duration `json:",omitzero"`
	Wanted, Going, Missed     bool          `json:",omitzero"`
	Soon, Reloading, Spoiled  bool          `json:",omitzero"`
	Blame, Why, Text          string        `json:",omitzero"`
	PID, LastPID              int           `json:",omitzero"`
	LastWait                  uint32        `json:",omitzero"`
	Tries, Lives              int           `json:",omitzero"`
	Failures, Losses          int           `json:",omitzero"`
	Birth                     uint64        `json:",omitzero"` // of PID, in clock ticks
	OOMs                      int           `json:",omitzero"` // kills in its cgroup before this life
	Clients                   []Process     `json:",omitempty"`
	Sockets                   []int         `json:",omitempty"`
	Stored                    []File        `json:",omitempty"`
	Changed, FirstUp, FirstAt float64       `json:",omitzero"` // what status shows
	Stale                     bool          `json:",omitzero"`
}

// Process names a process; Birth tells it from a later one with the same number.
type Process struct {
	PID   int
	Birth uint64
}

// File is a descriptor that a service left with PID 1.
type File struct {
	Name string
	File int
}

// Exit is the end of a process.
type Exit struct {
	PID  int
	Wait uint32
}

// Encode returns the text of s.
func (s State) Encode() ([]byte, error) {
	s.Version = Version
	return json.Marshal(s)
}

// Decode is the reverse of Encode.
func Decode(text []byte) (State, error) {
	// As many services as there can be: append would copy them, and each has more than a kilobyte.
	s := State{Services: make([]Service, 0, bytes.Count(text, []byte(`{"spec":`)))}
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, err
	}
	if s.Version != Version {
		return State{}, fmt.Errorf("the state has version %d, this program reads version %d only", s.Version, Version)
	}
	return s, nil
}

// Set writes the state of a service into s.
func (s *Service) Set(svc lifecycle.Service) {
	s.Phase = svc.Phase.String()
	s.Since, s.Deadline, s.UpSince = sinceBoot(svc.Since), sinceBoot(svc.Deadline), sinceBoot(svc.UpSince)
	s.BeganAt, s.Window = sinceBoot(svc.Began), sinceBoot(svc.Window)
	s.Wanted, s.Going, s.Missed = svc.Wanted, svc.Going, svc.Missed
	s.Soon, s.Reloading, s.Spoiled = svc.Soon, svc.Reloading, svc.Spoiled
	s.Blame, s.Why = svc.Blame, svc.Why
	s.PID, s.LastPID, s.LastWait = svc.PID, svc.Last.Pid, uint32(svc.Last.Wait)
	s.Tries, s.Lives, s.Failures, s.Losses = svc.Tries, svc.Lives, svc.Failures, svc.Losses
}

// Lifecycle is the reverse of Set. What does not depend on the earlier life comes from fresh.
func (s *Service) Lifecycle(fresh lifecycle.Service) (lifecycle.Service, error) {
	p, known := lifecycle.ParsePhase(s.Phase)
	if !known {
		return fresh, fmt.Errorf("no phase %q", s.Phase)
	}
	return lifecycle.Service{
		Phase: p, Epoch: fresh.Epoch, Seed: fresh.Seed, Broken: fresh.Broken,
		Since: clock(s.Since), Deadline: clock(s.Deadline), UpSince: clock(s.UpSince),
		Began: clock(s.BeganAt), Window: clock(s.Window),
		Wanted: s.Wanted, Going: s.Going, Missed: s.Missed, Soon: s.Soon, Reloading: s.Reloading, Spoiled: s.Spoiled,
		Blame: s.Blame, Why: s.Why, PID: s.PID, Last: proc.Status{Pid: s.LastPID, Wait: syscall.WaitStatus(s.LastWait)},
		Tries: s.Tries, Lives: s.Lives, Failures: s.Failures, Losses: s.Losses,
	}, nil
}

// sinceBoot turns a time of this process's clock into the time since the start of the kernel.
func sinceBoot(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return boottime.Now() + time.Until(t)
}

// clock is the reverse of sinceBoot.
func clock(since time.Duration) time.Time {
	if since == 0 {
		return time.Time{}
	}
	return boottime.Time(since)
}
