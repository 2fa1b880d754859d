package shutdown

import "time"

// phase is one part of the shutdown. Its name is the one in the log.
type phase struct {
	name    string
	limit   time.Duration
	patient bool // it waits for processes to end by themselves: skipped after a second request
	last    bool // it runs even after a third request
	do      func(*Shutdown)
}

// hardLimit is the time after which the power goes off in any case. It is longer than all phases together, and shorter
// than a person waits before pulling the plug.
const hardLimit = 90 * time.Second

// lastSync limits the sync after a third request, which is all that is still done then.
const lastSync = 5 * time.Second

// StopLimit is the time for all services to stop, in reverse order. The manager stops the containers within it.
const StopLimit = 40 * time.Second

// phases is everything between the request and the power switch, in order. The marker comes last while the state
// partition can still be written, so that a boot is called clean only when everything else is off the disks.
func phases() []phase {
	return []phase{
		{name: "services", limit: StopLimit, patient: true, do: (*Shutdown).stopServices},
		{name: "leftovers", limit: 5 * time.Second, patient: true, do: (*Shutdown).askLeftovers},
		{name: "kill", limit: 5 * time.Second, do: (*Shutdown).kill}, // one that waits for a dead disk may never end
		{name: "sync", limit: 15 * time.Second, do: (*Shutdown).sync},
		{name: "detach", limit: 8 * time.Second, do: (*Shutdown).detachMost},
		{name: "mark", limit: 5 * time.Second, do: (*Shutdown).mark},
		{name: "detach state", limit: 7 * time.Second, do: (*Shutdown).detachAll},
		{name: "last sync", limit: lastSync, last: true, do: (*Shutdown).sync},
	}
}

// level is how urgent the shutdown has become.
type level int

const (
	orderly level = iota // services and processes get their time
	hurried              // second request: all processes are killed at once
	cut                  // third request: a limited sync, then the power goes off
)

// skips reports whether a phase is left out, or ended while it runs, at a level.
func (p phase) skips(l level) bool {
	if p.last {
		return l < cut
	}
	return l >= cut || l == hurried && p.patient
}
