package supervise

import (
	"slices"
	"time"
)

// sweeps are the services whose groups are being emptied. They are looked at whenever an orphan
// was reaped, and, as a leftover may die under another parent, also at growing intervals.
type sweeps struct {
	svcs  []int
	next  time.Time // the next look without an orphan; zero is none
	pause time.Duration
}

const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// add reports whether i is new.
func (w *sweeps) add(i int, now time.Time) bool {
	if slices.Contains(w.svcs, i) {
		return false
	}
	w.svcs = append(w.svcs, i)
	w.pause = firstLook
	w.next = now.Add(w.pause)
	return true
}

func (w *sweeps) drop(i int) {
	w.svcs = slices.DeleteFunc(w.svcs, func(j int) bool { return j == i })
}

func (w *sweeps) waiting() []int { return slices.Clone(w.svcs) }

func (w *sweeps) due(now time.Time) bool { return !w.next.IsZero() && !now.Before(w.next) }

// again plans the next look.
func (w *sweeps) again(now time.Time) {
	if len(w.svcs) == 0 {
		w.next, w.pause = time.Time{}, 0
		return
	}
	w.pause = min(2*max(w.pause, firstLook), lastLook)
	w.next = now.Add(w.pause)
}
