package sshd

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// door limits the number of connections, and keeps strangers who do not log in from locking others out: if too many
// have not logged in yet, it closes the oldest connection of the address that has most of them.
type door struct {
	maxPending, maxUnknown, maxAdmitted int

	mu       sync.Mutex // guards everything below, and the processes of the guests
	pending  []*guest   // oldest first
	admitted map[*guest]bool
	empty    time.Time // since when nobody is connected; meaningless while somebody is
	closed   bool
}

// guest is one connection.
type guest struct {
	conn    net.Conn
	from    netip.Addr
	process *os.Process // the process that serves it; nil: it has sent nothing yet
}

func newDoor(pending, unknown, admitted int) *door {
	return &door{maxPending: pending, maxUnknown: unknown, maxAdmitted: admitted, admitted: map[*guest]bool{}, empty: time.Now()}
}

// knock admits a new connection. It fails only after close.
func (d *door) knock(conn net.Conn) (*guest, bool) {
	g := &guest{conn: conn}
	if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		g.from = from.Addr().Unmap().WithZone("")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, false
	}
	d.makeRoom(d.maxPending, func(*guest) bool { return true })
	d.pending = append(d.pending, g)
	return g, true
}

// serves records that p serves g from now on. It fails if g has been closed meanwhile; the caller must then kill p.
func (d *door) serves(g *guest, p *os.Process) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.drop(g) {
		return false
	}
	d.makeRoom(d.maxUnknown, func(g *guest) bool { return g.process != nil })
	g.process = p
	d.pending = append(d.pending, g) // from now on its age is that of its process
	return true
}

// makeRoom closes one pending guest if at least limit of those for which counts is true are there. The caller holds the
// lock.
func (d *door) makeRoom(limit int, counts func(*guest) bool) {
	from := map[netip.Addr]int{}
	all, most := 0, 0
	for _, g := range d.pending {
		if counts(g) {
			all++
			from[g.from]++
			most = max(most, from[g.from])
		}
	}
	if all < limit {
		return
	}
	for _, g := range d.pending {
		if counts(g) && from[g.from] == most {
			d.drop(g)
			g.putOut()
			return
		}
	}
}

// putOut closes a guest; its own goroutine then ends. The caller holds the lock.
func (g *guest) putOut() {
	g.conn.Close() // what it sent no longer matters
	if g.process != nil {
		g.process.Kill() // fails if the process has ended
	}
}

// putOut closes a guest that has not logged in.
func (d *door) putOut(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drop(g) {
		g.putOut()
	}
}

// admission is the result of admit.
type admission uint8

const (
	admitted admission = iota
	late               // it was closed before
	full               // too many have logged in: it is closed
)

// admit records that a guest has logged in.
func (d *door) admit(g *guest) admission {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.drop(g) {
		return late
	}
	if len(d.admitted) >= d.maxAdmitted {
		g.putOut()
		return full
	}
	d.admitted[g] = true
	return admitted
}

// leave removes a guest.
func (d *door) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(g)
	delete(d.admitted, g)
	d.empty = time.Now()
}

// emptySince returns since when nobody is connected: now if somebody is. Guests that were closed may still count for a
// moment.
func (d *door) emptySince(now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending)+len(d.admitted) > 0 {
		return now
	}
	return d.empty
}

// drop removes a guest from the pending ones. The caller holds the lock.
func (d *door) drop(g *guest) bool {
	for i, have := range d.pending {
		if have == g {
			d.pending = append(d.pending[:i], d.pending[i+1:]...)
			return true
		}
	}
	return false
}

// close admits no further guests and closes those that have sent nothing yet. Guests with a process continue.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, g := range d.pending {
		if g.process == nil {
			g.putOut()
		}
	}
}
