package supervise

import (
	"container/heap"
	"slices"
	"time"
)

// alarm is one timer for the deadlines of all services, one deadline each.
type alarm struct {
	timer *time.Timer
	heap  deadlines
	at    time.Time // what the timer is set to; zero is not at all
}

func newAlarm(services int) alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	pos := make([]int, services)
	for i := range pos {
		pos[i] = -1
	}
	return alarm{timer: t, heap: deadlines{at: make([]time.Time, services), pos: pos}}
}

func (a *alarm) stop() { a.timer.Stop() }

// plan makes at the deadline of svc, in the place of the one it had; zero is none.
func (a *alarm) plan(svc int, at time.Time) {
	h := &a.heap
	switch pos := h.pos[svc]; {
	case at.Equal(h.at[svc]):
	case at.IsZero():
		heap.Remove(h, pos)
	case pos >= 0:
		h.at[svc] = at
		heap.Fix(h, pos)
	default:
		h.at[svc] = at
		heap.Push(h, svc)
	}
}

// due takes one deadline that is over.
func (a *alarm) due(now time.Time) (svc int, ok bool) {
	if a.heap.Len() == 0 || now.Before(a.heap.first()) {
		return 0, false
	}
	return heap.Pop(&a.heap).(int), true
}

// set lets the timer ring at the earliest of the deadlines and also, if that is not zero.
func (a *alarm) set(also time.Time) {
	first := also
	if a.heap.Len() > 0 && (first.IsZero() || a.heap.first().Before(first)) {
		first = a.heap.first()
	}
	switch {
	case first.Equal(a.at):
		return
	case first.IsZero():
		a.timer.Stop()
	default:
		a.timer.Reset(time.Until(first))
	}
	a.at = first
}

// deadlines is a min-heap of service numbers by time that knows where each number is.
type deadlines struct {
	order []int
	at    []time.Time // by service; zero is none
	pos   []int       // by service, in order; -1 is not there
}

func (d *deadlines) first() time.Time { return d.at[d.order[0]] }

func (d *deadlines) Len() int           { return len(d.order) }
func (d *deadlines) Less(i, j int) bool { return d.at[d.order[i]].Before(d.at[d.order[j]]) }
func (d *deadlines) Swap(i, j int) {
	d.order[i], d.order[j] = d.order[j], d.order[i]
	d.pos[d.order[i]], d.pos[d.order[j]] = i, j
}
func (d *deadlines) Push(x any) {
	d.pos[x.(int)] = len(d.order)
	d.order = append(d.order, x.(int))
}
func (d *deadlines) Pop() any {
	last := len(d.order) - 1
	svc := d.order[last]
	d.order = d.order[:last]
	d.pos[svc], d.at[svc] = -1, time.Time{}
	return svc
}

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
