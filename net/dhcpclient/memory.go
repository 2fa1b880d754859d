package dhcpclient

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"resinos/net/arp"
	"resinos/net/lease"
	"resinos/net/leasememory"
)

// memory is what the client keeps over a reboot.
type memory struct {
	entry   leasememory.Entry // what the file says
	written time.Duration     // when this process last wrote it; 0: never
	asked   *witness          // open while a station of the network is looked for
}

// writePause is the shortest time between two writes of a link's file, whatever servers do.
const writePause = 10 * time.Minute

// remember gives the machine the lease of an earlier boot.
func (c *Client) remember(at time.Duration) {
	if c.cfg.Memory == "" {
		return
	}
	e, err := leasememory.Load(c.cfg.Memory, c.cfg.Link.Name, c.cfg.Link.Hardware)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.cfg.Log.Warn("lease of an earlier boot not usable", "error", err)
		}
		return
	}
	c.memory.entry = e
	c.machine.Remember(at, e.Lease, e.Usable(time.Now()))
}

// recognise asks whether the link is in the network of the remembered lease, while the server is asked for the lease.
func (c *Client) recognise(at time.Duration) {
	if _, inUse := c.machine.Lease(); !inUse && c.memory.entry.Hardware != "" {
		c.find(at, c.memory.entry.Witness, func(at time.Duration, hardware net.HardwareAddr) {
			if hardware.String() != c.memory.entry.Hardware {
				c.cfg.Log.Info("another network than before the boot", "hardware", hardware)
				return
			}
			c.carry(at, c.machine.Recognise(at))
		})
	}
}

// keep writes a lease that a server has granted, as soon as a station of its network has been found. Nothing is written
// if the file says the same already.
func (c *Client) keep(at time.Duration, l lease.Lease) {
	if _, bound := c.machine.Lease(); !bound || c.cfg.Memory == "" || c.machine.State() != lease.Bound {
		return
	}
	m := &c.memory
	addr, found := leasememory.Witness(l)
	if !found || m.entry.Covers(l) || m.written != 0 && at-m.written < writePause {
		return
	}
	m.written = at
	c.find(at, addr, func(_ time.Duration, hardware net.HardwareAddr) {
		e := leasememory.Entry{Lease: l, Witness: addr, Hardware: hardware.String(), Saved: time.Now().UTC()}
		m.entry = e
		c.tasks.Go(func() { // the disk may be slow
			if err := e.Save(c.cfg.Memory); err != nil {
				c.cfg.Log.Warn("lease not kept for the next boot", "error", err)
			}
		})
	})
}

// witness looks for a station by its address.
type witness struct {
	socket *arp.Socket
	stop   chan struct{}
	done   chan struct{} // closed by run
}

// witnessSteps are the pauses after each question.
var witnessSteps = [...]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, time.Second, time.Second}

// find asks for the hardware address of a station, and has found called with it if there is an answer.
func (c *Client) find(at time.Duration, addr netip.Addr, found func(time.Duration, net.HardwareAddr)) {
	c.lose()
	s, err := arp.Open(c.cfg.Link.Index, c.cfg.Link.Name, c.hardware(), addr)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	w := &witness{socket: s, stop: make(chan struct{}), done: make(chan struct{})}
	c.memory.asked = w
	go w.run(c.cfg.Owner.Events, func(at time.Duration, hardware net.HardwareAddr) {
		if c.memory.asked == w {
			c.lose()
			found(at, hardware)
		}
	})
}

// lose ends the search.
func (c *Client) lose() {
	if w := c.memory.asked; w != nil {
		c.memory.asked = nil
		close(w.stop)
		w.socket.Close() // nobody needs the rest
		<-w.done
	}
}

func (w *witness) run(events chan<- func(time.Duration), found func(time.Duration, net.HardwareAddr)) {
	defer close(w.done)
	heard := make(chan net.HardwareAddr, 1)
	received := make(chan struct{})
	go func() {
		defer close(received)
		if hardware, err := w.socket.Receive(); err == nil {
			heard <- hardware
		}
	}()
	defer func() {
		w.socket.Close() // ends the receiver
		<-received
	}()
	for _, pause := range witnessSteps {
		_ = w.socket.Probe() // the next question makes up for one that cannot be sent
		select {
		case hardware := <-heard:
			select {
			case events <- func(at time.Duration) { found(at, hardware) }:
			case <-w.stop:
			}
			return
		case <-time.After(pause):
		case <-w.stop:
			return
		}
	}
}
