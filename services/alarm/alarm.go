// Package alarm owns one timer for many deadlines, so that none of its users needs a goroutine or a timer of its own.
// It calls no function of its users. Read Alarm first.
package alarm

import (
	"container/heap"
	"time"
)

// Alarm is the timer. It belongs to one goroutine, which waits for C. Each deadline has a number.
type Alarm struct {
	timer *time.Timer
	heap  deadlines
	at    time.Time // what the timer is set to; zero: not set
}

// New returns an alarm for this many deadlines, none of them set. Stop ends it.
func New(waiting int) Alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	pos := make([]int, waiting)
	for i := range pos {
		pos[i] = -1
	}
	return Alarm{timer: t, heap: deadlines{at: make([]time.Time, waiting), pos: pos}}
}

// C is the channel of the timer. The receiver calls Rang, handles what is Due, and calls Set.
func (a *Alarm) C() <-chan time.Time { return a.timer.C }

// Rang records that C has been received from.
func (a *Alarm) Rang() { a.at = time.Time{} }

// Stop stops the timer until the next Set.
func (a *Alarm) Stop() { a.timer.Stop() }

// Plan sets the deadline of number n to at; zero: none.
func (a *Alarm) Plan(n int, at time.Time) {
	h := &a.heap
	switch pos := h.pos[n]; {
	case at.Equal(h.at[n]):
	case at.IsZero():
		heap.Remove(h, pos)
	case pos >= 0:
		h.at[n] = at
		heap.Fix(h, pos)
	default:
		h.at[n] = at
		heap.Push(h, n)
	}
}

// Due removes one deadline that is over, and returns its number.
func (a *Alarm) Due(now time.Time) (n int, ok bool) {
	if a.heap.Len() == 0 || now.Before(a.heap.first()) {
		return 0, false
	}
	return heap.Pop(&a.heap).(int), true
}

// Set sets the timer to the earliest deadline, or to also if that is earlier and not zero.
func (a *Alarm) Set(also time.Time) {
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

// deadlines is a min-heap of numbers by time, in which the place of each number is known.
type deadlines struct {
	order []int
	at    []time.Time // by number; zero: none
	pos   []int       // by number; -1: not in the heap
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
