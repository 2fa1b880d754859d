package netd

import (
	"net"
	"net/netip"
	"time"

	"resinos/net/arp"
	"resinos/net/lease"
)

// conflict is a claim of another station that neighbours received.
type conflict struct {
	from     *neighbours
	hardware net.HardwareAddr
}

// neighbours receives the claims of other stations to the address that a link was granted. It is open for some seconds.
type neighbours struct {
	socket *arp.Socket
	owner  *dhcp
	addr   netip.Addr
	out    chan<- conflict
	stop   chan struct{}
	done   chan struct{} // closed by run
}

func (n *neighbours) run() {
	defer close(n.done)
	for {
		hardware, err := n.socket.Receive()
		if err != nil {
			return // closed, or the link is down: then the check begins again
		}
		select {
		case n.out <- conflict{n, hardware}:
		case <-n.stop:
			return
		}
		select { // a station that floods us with claims is read once in a while
		case <-time.After(pause):
		case <-n.stop:
			return
		}
	}
}

// close ends the receiver and waits for it.
func (n *neighbours) close() {
	close(n.stop)
	n.socket.Close() // nobody needs the rest
	<-n.done
}

// watchAddress opens, changes or closes the receiver of claims as the machine demands.
func (d *daemon) watchAddress(at time.Duration, c *dhcp) {
	addr, on := c.machine.Checking()
	if c.neighbours != nil && on && c.neighbours.addr == addr {
		return
	}
	c.unwatch()
	if !on {
		return
	}
	hardware, _ := net.ParseMAC(c.link.Hardware) // the kernel wrote it
	s, err := arp.Open(c.link.Index, c.link.Name, hardware, addr)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	c.neighbours = &neighbours{socket: s, owner: c, addr: addr, out: d.conflicts, stop: make(chan struct{}), done: make(chan struct{})}
	go c.neighbours.run()
}

func (c *dhcp) unwatch() {
	if c.neighbours != nil {
		c.neighbours.close()
		c.neighbours = nil
	}
}

// dispute processes a conflict, unless its receiver has been closed meanwhile.
func (d *daemon) dispute(at time.Duration, x conflict) {
	if c := x.from.owner; c.neighbours == x.from {
		d.carry(at, c, c.machine.Conflict(at, x.from.addr, x.hardware))
	}
}

// question sends a probe or an announcement. If it is lost, the next one makes up for it.
func (c *dhcp) question(at time.Duration, verb lease.Verb) {
	if c.neighbours == nil {
		return // logged already
	}
	send := c.neighbours.socket.Probe
	if verb == lease.Announce {
		send = c.neighbours.socket.Announce
	}
	if err := send(); err != nil {
		c.note(at, err.Error())
	}
}
