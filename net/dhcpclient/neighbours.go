package dhcpclient

import (
	"net"
	"net/netip"
	"time"

	"resinos/net/arp"
	"resinos/net/lease"
)

// neighbours receives the claims of other stations to the address that a link was granted. It is open for some seconds.
type neighbours struct {
	socket *arp.Socket
	owner  *Client
	addr   netip.Addr
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
		case n.owner.cfg.Owner.Events <- func(at time.Duration) { n.owner.dispute(at, n, hardware) }:
		case <-n.stop:
			return
		}
		select { // a station that floods us with claims is read once in a while
		case <-time.After(Pause):
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
func (c *Client) watchAddress(at time.Duration) {
	addr, on := c.machine.Checking()
	if c.neighbours != nil && on && c.neighbours.addr == addr {
		return
	}
	c.unwatch()
	if !on {
		return
	}
	s, err := arp.Open(c.cfg.Link.Index, c.cfg.Link.Name, c.hardware(), addr)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	c.neighbours = &neighbours{socket: s, owner: c, addr: addr, stop: make(chan struct{}), done: make(chan struct{})}
	go c.neighbours.run()
}

func (c *Client) unwatch() {
	if c.neighbours != nil {
		c.neighbours.close()
		c.neighbours = nil
	}
}

// dispute processes the claim of another station, unless its receiver has been closed meanwhile.
func (c *Client) dispute(at time.Duration, from *neighbours, hardware net.HardwareAddr) {
	if c.neighbours == from {
		c.carry(at, c.machine.Conflict(at, from.addr, hardware))
	}
}

// question sends a probe or an announcement. If it is lost, the next one makes up for it.
func (c *Client) question(at time.Duration, verb lease.Verb) {
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
