package shutdown

import "time"

// phase is one part of the shutdown. Its name is what the log says.
type phase struct {
	name    string
	limit   time.Duration
	patient bool // it waits for others to end by themselves: skipped as soon as somebody asks again
	last    bool // it is for when all else is skipped
	do      func(*Shutdown)
}

// hardLimit is the time after which the power goes off, whatever hangs. It is longer than all phases together, and
// shorter than a person waits before pulling the plug.
const hardLimit = 90 * time.Second

// lastSync bounds the only thing that is still done when somebody asks a third time.
const lastSync = 5 * time.Second

// StopLimit is the time of all services to stop, in reverse order. The manager stops the containers within it.
const StopLimit = 40 * time.Second

// phases is everything between the request and the power switch, in order. The marker comes last while the state
// partition can still be written, so that a boot is called clean only when everything else is off the disks.
func phases() []phase {
	return []phase{
		{name: "services", limit: StopLimit, patient: true, do: (*Shutdown).stopServices},
		{name: "leftovers", limit: 5 * time.Second, patient: true, do: (*Shutdown).askLeftovers},
		{name: "kill", limit: 5 * time.Second, do: (*Shutdown).kill}, // a process in a dead disk's queue may never end
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
	orderly level = iota // everybody gets its time
	hurried              // asked again: nobody is waited for, all is killed at once
	cut                  // asked a third time: a bounded sync, and the power goes
)

// skips tells whether a phase is left out, or left when it is under way, at a level.
func (p phase) skips(l level) bool {
	if p.last {
		return l < cut
	}
	return l >= cut || l == hurried && p.patient
}
