package logd

import (
	"bytes"
	"time"

	"resinos/services/log/entry"
	"resinos/services/log/spool"
)

// intake receives the lines of one turn.
type intake struct {
	c       *collector
	p       *input
	e       entry.Entry
	now     time.Duration
	dropped bool // some lines were
}

// Line implements spool.Sink.
func (in *intake) Line(l spool.Line, cursor int64) error {
	p, ring := in.p, in.c.ring
	if l.Control {
		p.pid = l.PID
		return p.mark(ring, cursor)
	}
	if !p.bucket.take(in.c.limit, in.now, l.Size) {
		n := 1
		if l.Cut { // what follows counts
			n = 0
		}
		in.drop(n)
		return nil
	}
	if p.lag {
		if err := p.mark(ring, p.Cursor); err != nil {
			return err
		}
	}
	in.e.Priority, in.e.Cut, in.e.PID = l.Priority, l.Cut, p.pid
	return ring.Append(&in.e, l.Message, cursor)
}

// Discard implements spool.Sink: it counts the lines of a source over its limit without parsing them.
func (in *intake) Discard(b []byte) int {
	if !in.p.bucket.empty(in.c.limit, in.now) || bytes.IndexByte(b, 1) >= 0 { // perhaps a control line: one by one
		return 0
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if end > 0 {
		in.drop(bytes.Count(b[:end], []byte("\n")))
	}
	return end
}

func (in *intake) drop(n int) {
	in.dropped = true
	in.p.drop(n)
	in.c.tellLater(in.p.tally, in.now)
}

// tellLater sets the time at which dropped lines are reported, so that one report covers more of them.
func (c *collector) tellLater(t *tally, now time.Duration) {
	if _, waits := c.reports[t]; !waits {
		c.reports[t] = now + reportWait
	}
}

// tell appends the entry that reports dropped lines.
func (c *collector) tell(t *tally) {
	delete(c.reports, t)
	if t.dropped == 0 {
		return
	}
	wall, boottime := c.clock()
	if err := t.report(c.ring, wall, boottime); err != nil {
		c.trouble(err)
		c.reports[t] = boottime + retryWait
	}
}
