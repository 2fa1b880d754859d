package logd

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
	"resinos/services/log/syslog"
)

const (
	// syslogTurn is the limit on messages that one turn reads.
	syslogTurn = 256
	// maxSyslog limits the sources that senders can create by their tags; all further tags share one.
	maxSyslog = 64
)

// A syslogInput reads messages from /dev/log. The kernel keeps them: each is written to the ring before it is removed
// from the socket. Its stamp, which is the cursor of its source, shows after a restart whether it was written already.
type syslogInput struct {
	socket  *syslog.Socket
	limit   limit
	tallies map[pipe.Source]*tally
	fresh   bool  // no message was read in this life
	taken   int64 // stamp of a message that is appended but still in the socket
}

func newSyslogInput(socket *syslog.Socket, l limit, to *ring.Ring) *syslogInput {
	in := &syslogInput{socket: socket, limit: l, tallies: map[pipe.Source]*tally{}, fresh: true}
	for _, s := range to.Sources() {
		if s.Kind == entry.Syslog {
			in.tallies[s] = newTally(s, to)
		}
	}
	return in
}

// source returns the source of a message. The tag is what the sender claims; the pid is from the kernel.
func (in *syslogInput) source(m *syslog.Message) pipe.Source {
	s := pipe.Source{Kind: entry.Syslog, Name: m.Tag, Stream: m.Facility}
	if in.tallies[s] == nil && len(in.tallies) >= maxSyslog {
		if m.Tag != syslog.User {
			m.Text = fmt.Appendf(nil, "%s: %s", m.Tag, m.Text)
		}
		s.Name, s.Stream = syslog.User, syslog.User
	}
	return s
}

func (in *syslogInput) tally(s pipe.Source, to *ring.Ring) *tally {
	t := in.tallies[s]
	if t == nil {
		t = newTally(s, to)
		in.tallies[s] = t
	}
	return t
}

// turn moves some messages into the ring, and returns the sources that were over their limit.
func (in *syslogInput) turn(to *ring.Ring, wall time.Time, boottime time.Duration) (over map[*tally]int64, err error) {
	over = map[*tally]int64{}
	for range syslogTurn {
		d, err := in.socket.Peek()
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return over, err
		}
		m := syslog.Parse(d.Text)
		s := in.source(&m)
		known := d.Stamp == in.taken || in.fresh && d.Stamp == to.Mark(s).Cursor
		in.fresh = false
		if len(d.Text) > 0 && !known {
			t := in.tally(s, to)
			if !t.bucket.take(in.limit, boottime, len(m.Text)) {
				t.drop(1)
				over[t] = d.Stamp
			} else if err := in.append(to, t, &m, &d, wall, boottime); err != nil {
				return over, nil // the file system is full, and the collector waits for room
			}
		}
		if err := in.socket.Drop(); err != nil {
			return over, err
		}
		in.taken = 0
	}
	for t, stamp := range over {
		if err := t.mark(to, stamp); err != nil {
			return over, nil // as above
		}
	}
	return over, nil
}

// append makes a message durable.
func (in *syslogInput) append(to *ring.Ring, t *tally, m *syslog.Message, d *syslog.Datagram, wall time.Time,
	boottime time.Duration) error {
	e := entry.Entry{
		Kind: t.source.Kind, Name: t.source.Name, Stream: t.source.Stream, Time: wall, Boottime: boottime,
		Priority: m.Priority, PID: d.PID, Cut: d.Cut,
	}
	if err := to.Append(&e, m.Text, d.Stamp); err != nil {
		return err
	}
	in.taken = d.Stamp
	return to.Commit()
}
