package processes

import (
	"slices"
	"time"
)

// Sweeps are the services whose leftover processes have been killed and have not all ended. The supervisor looks at
// them whenever it has reaped an orphan and, because a leftover may have another parent, also at growing intervals.
type Sweeps struct {
	ids   []int
	next  time.Time // the next look without an orphan; zero is none
	pause time.Duration
}

const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// add reports whether id is new.
func (w *Sweeps) add(id int, now time.Time) bool {
	if slices.Contains(w.ids, id) {
		return false
	}
	w.ids = append(w.ids, id)
	w.pause = firstLook
	w.next = now.Add(w.pause)
	return true
}

// Drop removes a service that needs no further look.
func (w *Sweeps) Drop(id int) {
	w.ids = slices.DeleteFunc(w.ids, func(other int) bool { return other == id })
}

// Waiting lists the services.
func (w *Sweeps) Waiting() []int { return slices.Clone(w.ids) }

// Next is when the next look is due; zero is never.
func (w *Sweeps) Next() time.Time { return w.next }

// Due reports whether the next look is due.
func (w *Sweeps) Due(now time.Time) bool { return !w.next.IsZero() && !now.Before(w.next) }

// Plan sets the time of the next look, after one.
func (w *Sweeps) Plan(now time.Time) {
	if len(w.ids) == 0 {
		w.next, w.pause = time.Time{}, 0
		return
	}
	w.pause = min(2*max(w.pause, firstLook), lastLook)
	w.next = now.Add(w.pause)
}
