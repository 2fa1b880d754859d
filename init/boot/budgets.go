package boot

import "time"

// phase is one part of the way down. Its name is what the log says.
type phase struct {
	name    string
	limit   time.Duration
	patient bool // it waits for others to end by themselves: skipped as soon as somebody asks again
	do      func(*down)
}

// hardLimit is the time after which the power goes whatever hangs. It is longer than all phases together, and shorter than a
// person waits before pulling the plug.
const hardLimit = 90 * time.Second

// lastSync bounds the only thing that is still done when somebody asks a third time.
const lastSync = 5 * time.Second

// stopPatience is the time of all services to stop, in reverse order. The manager stops the containers within it.
const stopPatience = 40 * time.Second

// wayDown is everything between the wish and the power switch, in order. The marker comes last while the state partition can
// still be written, so that a boot is called clean only when everything else is off the disks.
func wayDown() []phase {
	return []phase{
		{"services", stopPatience, true, (*down).stopServices},
		{"leftovers", 5 * time.Second, true, (*down).askLeftovers},
		{"kill", 5 * time.Second, false, (*down).kill}, // a process in a dead disk's queue may never end
		{"sync", 15 * time.Second, false, (*down).sync},
		{"detach", 8 * time.Second, false, (*down).detachMost},
		{"mark", 5 * time.Second, false, (*down).mark},
		{"detach state", 7 * time.Second, false, (*down).detachAll},
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
func (p phase) skips(l level) bool { return l >= cut || l == hurried && p.patient }
