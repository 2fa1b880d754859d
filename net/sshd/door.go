package sshd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// door bounds how many connections there are, and keeps strangers who say nothing from locking others out: when too
// many have not logged in yet, the oldest one of the address that has most of them is put out.
type door struct {
	maxPending, maxAdmitted int

	mu       sync.Mutex // guards all below
	pending  []*guest   // oldest first
	admitted map[*guest]bool
	empty    time.Time // since when nobody is here; while somebody is, without meaning
	closed   bool
}

// guest is one connection at the door.
type guest struct {
	conn net.Conn
	from netip.Addr
}

func newDoor(pending, admitted int) *door {
	return &door{maxPending: pending, maxAdmitted: admitted, admitted: map[*guest]bool{}, empty: time.Now()}
}

// knock lets a new connection in to log in. It fails only after close.
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
	if len(d.pending) >= d.maxPending {
		d.evict()
	}
	d.pending = append(d.pending, g)
	return g, true
}

// evict closes one pending connection; its own goroutine then leaves. The caller holds the lock.
func (d *door) evict() {
	count := map[netip.Addr]int{}
	most := 0
	for _, g := range d.pending {
		count[g.from]++
		most = max(most, count[g.from])
	}
	for i, g := range d.pending {
		if count[g.from] == most {
			g.conn.Close() // what it had to say does not matter any more
			d.pending = append(d.pending[:i], d.pending[i+1:]...)
			return
		}
	}
}

// admit notes that a guest has logged in. It fails if there are too many, or if it has been put out meanwhile.
func (d *door) admit(g *guest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.drop(g) || d.closed || len(d.admitted) >= d.maxAdmitted {
		return false
	}
	d.admitted[g] = true
	return true
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

// close closes every connection and lets no more in.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, g := range d.pending {
		g.conn.Close() // the end is wanted
	}
	for g := range d.admitted {
		g.conn.Close() // as above
	}
}
