package netd

import (
	"net"
	"net/netip"
	"time"

	"resinos/net/arp"
	"resinos/net/lease"
)

// conflict is what a watcher of an address heard.
type conflict struct {
	from     *neighbours
	hardware net.HardwareAddr
}

// neighbours hears whether somebody else has the address that a claim has been granted. It is open for some seconds.
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
			return // closed, or the link is down: then the check begins anew
		}
		select {
		case n.out <- conflict{n, hardware}:
		case <-n.stop:
			return
		}
		select { // who floods us with claims is heard once in a while
		case <-time.After(pause):
		case <-n.stop:
			return
		}
	}
}

// close ends the receiver and waits for it.
func (n *neighbours) close() {
	close(n.stop)
	n.socket.Close() // nothing is lost: nobody wants to hear it any more
	<-n.done
}

// watchAddress opens, turns or closes the client's view of its neighbours as its machine says.
func (d *daemon) watchAddress(at time.Duration, c *dhcp) {
	addr, on := c.machine.Checking()
	if c.near != nil && on && c.near.addr == addr {
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
	c.near = &neighbours{socket: s, owner: c, addr: addr, out: d.conflicts, stop: make(chan struct{}), done: make(chan struct{})}
	go c.near.run()
}

func (c *dhcp) unwatch() {
	if c.near != nil {
		c.near.close()
		c.near = nil
	}
}

// dispute takes what a watcher heard, unless it has been closed since.
func (d *daemon) dispute(at time.Duration, x conflict) {
	if c := x.from.owner; c.near == x.from {
		d.carry(at, c, c.machine.Conflict(at, x.from.addr, x.hardware))
	}
}

// question puts a probe or an announcement on the wire. What is lost is made up for by the next one.
func (c *dhcp) question(at time.Duration, verb lease.Verb) {
	if c.near == nil {
		return // said already
	}
	send := c.near.socket.Probe
	if verb == lease.Announce {
		send = c.near.socket.Announce
	}
	if err := send(); err != nil {
		c.note(at, err.Error())
	}
}
