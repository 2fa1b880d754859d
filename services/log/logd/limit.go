package logd

import (
	"fmt"
	"time"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
)

const (
	// DefaultRate and DefaultBurst limit a source: lines a second on average, and lines at once.
	DefaultRate  = 1000
	DefaultBurst = 10_000

	// NoLimit as Config.Rate lets every source write any number of lines.
	NoLimit = -1

	// lineBytes is the size up to which a line counts as one; a longer line counts as one for each lineBytes.
	lineBytes = 1 << 10
	// reportWait is how long dropped lines are counted before one entry reports their number.
	reportWait = time.Second
	// floodPause is the time between the turns of a source that is over its limit. Together with the capacity of a pipe
	// it bounds the work that a flood causes; a producer waits no longer than this.
	floodPause = 5 * time.Millisecond
)

// limit is a token bucket's size, in lines. Off when rate is not positive.
type limit struct {
	rate, burst float64
}

// bucket is the state of one; full at first.
type bucket struct {
	spent float64
	at    time.Duration // the time for which spent holds
}

// take counts a line of size bytes, and reports whether it is within the limit.
func (b *bucket) take(l limit, now time.Duration, size int) bool {
	cost := float64(1 + size/lineBytes)
	if l.rate <= 0 {
		return true
	}
	b.refill(l, now)
	if b.spent+cost > l.burst && b.spent > 0 { // the longest line of a full bucket always passes
		return false
	}
	b.spent += cost
	return true
}

// empty reports whether not even a short line would pass.
func (b *bucket) empty(l limit, now time.Duration) bool {
	if l.rate <= 0 {
		return false
	}
	b.refill(l, now)
	return b.spent+1 > l.burst && b.spent > 0
}

func (b *bucket) refill(l limit, now time.Duration) {
	b.spent = max(b.spent-l.rate*(now-b.at).Seconds(), 0)
	b.at = now
}

// A tally applies the limit to a source and counts the dropped lines. The count is kept in the ring; only the entry
// that reports it sets it to 0, so that each written line is either kept or counted.
type tally struct {
	source  pipe.Source
	bucket  bucket
	pid     int
	dropped uint64
	lag     bool // dropped and the cursor behind it are not in the ring yet
}

func newTally(s pipe.Source, to *ring.Ring) *tally {
	m := to.Mark(s)
	return &tally{source: s, pid: m.PID, dropped: m.Dropped}
}

// drop counts n lines.
func (t *tally) drop(n int) {
	t.dropped += uint64(n)
	t.lag = true
}

// mark writes the count into the ring, with a cursor after the last counted line.
func (t *tally) mark(to *ring.Ring, cursor int64) error {
	err := to.SetMark(t.source, chunk.Mark{Cursor: cursor, PID: t.pid, Dropped: t.dropped})
	t.lag = err != nil && t.lag
	return err
}

// report appends the entry with the number of dropped lines.
func (t *tally) report(to *ring.Ring, wall time.Time, boottime time.Duration) error {
	e := entry.Entry{
		Kind: t.source.Kind, Name: t.source.Name, Stream: t.source.Stream, Time: wall, Boottime: boottime, Priority: 4,
		PID: t.pid,
	}
	if err := to.Report(&e, fmt.Appendf(nil, "%d lines dropped", t.dropped)); err != nil {
		return err
	}
	t.dropped = 0
	return nil
}
