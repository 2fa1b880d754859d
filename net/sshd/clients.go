package sshd

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// clients limits the number of connections, and keeps strangers who do not log in from locking others out: if too many
// have not logged in yet, it closes the oldest connection of the address that has most of them.
type clients struct {
	maxPending, maxUnknown, maxAdmitted int

	mu       sync.Mutex // guards everything below, and the processes of the clients
	pending  []*client  // oldest first
	admitted map[*client]bool
	empty    time.Time // since when nobody is connected; meaningless while somebody is
	closed   bool
}

// client is one connection with its client.
type client struct {
	conn    net.Conn
	from    netip.Addr
	process *os.Process // the process that serves it; nil: it has sent nothing yet
}

func newClients(pending, unknown, admitted int) *clients {
	return &clients{maxPending: pending, maxUnknown: unknown, maxAdmitted: admitted, admitted: map[*client]bool{},
		empty: time.Now()}
}

// add adds a new connection. It fails only after close.
func (cs *clients) add(conn net.Conn) (*client, bool) {
	c := &client{conn: conn}
	if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		c.from = from.Addr().Unmap().WithZone("")
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, false
	}
	cs.closeOldest(cs.maxPending, func(*client) bool { return true })
	cs.pending = append(cs.pending, c)
	return c, true
}

// setProcess records that p serves c from now on. It fails if c has been closed meanwhile; the caller must then kill p.
func (cs *clients) setProcess(c *client, p *os.Process) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.drop(c) {
		return false
	}
	cs.closeOldest(cs.maxUnknown, func(c *client) bool { return c.process != nil })
	c.process = p
	cs.pending = append(cs.pending, c) // from now on its age is that of its process
	return true
}

// closeOldest closes one pending client if at least limit of those for which counts is true are there. The caller
// holds the lock.
func (cs *clients) closeOldest(limit int, counts func(*client) bool) {
	from := map[netip.Addr]int{}
	count, most := 0, 0
	for _, c := range cs.pending {
		if counts(c) {
			count++
			from[c.from]++
			most = max(most, from[c.from])
		}
	}
	if count < limit {
		return
	}
	for _, c := range cs.pending {
		if counts(c) && from[c.from] == most {
			cs.drop(c)
			c.close()
			return
		}
	}
}

// close closes a client's connection; its own goroutine then ends. The caller holds the lock.
func (c *client) close() {
	c.conn.Close() // what it sent no longer matters
	if c.process != nil {
		c.process.Kill() // fails if the process has ended
	}
}

// closePending closes the connection of a client that has not logged in.
func (cs *clients) closePending(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.drop(c) {
		c.close()
	}
}

// admission is the result of admit.
type admission uint8

const (
	admitted admission = iota
	late               // it was closed before
	full               // too many have logged in: it is closed
)

// admit records that a client has logged in.
func (cs *clients) admit(c *client) admission {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.drop(c) {
		return late
	}
	if len(cs.admitted) >= cs.maxAdmitted {
		c.close()
		return full
	}
	cs.admitted[c] = true
	return admitted
}

// remove removes a client.
func (cs *clients) remove(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.drop(c)
	delete(cs.admitted, c)
	cs.empty = time.Now()
}

// emptySince returns since when nobody is connected: now if somebody is. Clients that were closed may still count for a
// moment.
func (cs *clients) emptySince(now time.Time) time.Time {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if len(cs.pending)+len(cs.admitted) > 0 {
		return now
	}
	return cs.empty
}

// drop removes a client from the pending ones. The caller holds the lock.
func (cs *clients) drop(c *client) bool {
	for i, have := range cs.pending {
		if have == c {
			cs.pending = append(cs.pending[:i], cs.pending[i+1:]...)
			return true
		}
	}
	return false
}

// close admits no further clients and closes those that have sent nothing yet. Clients with a process continue.
func (cs *clients) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for _, c := range cs.pending {
		if c.process == nil {
			c.close()
		}
	}
}
