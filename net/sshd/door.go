package sshd

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// door bounds how many connections there are, and keeps strangers who do not log in from locking others out: when too
// many have not logged in yet, the oldest one of the address that has most of them is put out.
type door struct {
	maxPending, maxUnknown, maxAdmitted int

	mu       sync.Mutex // guards all below, and the processes of the guests
	pending  []*guest   // oldest first
	admitted map[*guest]bool
	empty    time.Time // since when nobody is here; while somebody is, without meaning
	closed   bool
}

// guest is one connection at the door.
type guest struct {
	conn    net.Conn
	from    netip.Addr
	process *os.Process // that serves it; nil: it has said nothing yet
}

func newDoor(pending, unknown, admitted int) *door {
	return &door{maxPending: pending, maxUnknown: unknown, maxAdmitted: admitted, admitted: map[*guest]bool{}, empty: time.Now()}
}

// knock lets a new connection in. It fails only after close.
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

// serves notes that p serves g from now on. It fails if g has been put out meanwhile; then p is the caller's to kill.
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

// makeRoom puts one pending guest out if of those that count there are limit or more. The caller holds the lock.
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

// putOut ends a guest; its own goroutine then leaves. The caller holds the lock.
func (g *guest) putOut() {
	g.conn.Close() // what it had to say does not matter any more
	if g.process != nil {
		g.process.Kill() // it fails if the process has ended
	}
}

// putOut ends a guest who has not logged in.
func (d *door) putOut(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drop(g) {
		g.putOut()
	}
}

// admission is what becomes of a guest that has logged in.
type admission uint8

const (
	admitted admission = iota
	late               // it was put out before
	full               // too many have logged in: it is put out
)

// admit notes that a guest has logged in.
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

// leave forgets a guest.
func (d *door) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(g)
	delete(d.admitted, g)
	d.empty = time.Now()
}

// emptySince returns since when nobody is here, which is now if somebody is. Those who were put out may linger for a moment.
func (d *door) emptySince(now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending)+len(d.admitted) > 0 {
		return now
	}
	return d.empty
}

// drop takes a guest from the pending ones. The caller holds the lock.
func (d *door) drop(g *guest) bool {
	for i, have := range d.pending {
		if have == g {
			d.pending = append(d.pending[:i], d.pending[i+1:]...)
			return true
		}
	}
	return false
}

// close lets no more in and puts out who has said nothing yet. Who has a process is its own master.
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
