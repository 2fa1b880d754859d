package dhcpclient

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/net/lease"
)

// receiver reads one link's socket. It reads at most Burst messages at once and one more in each Pause: a server sends
// two messages to a client, a flood thousands, and the kernel drops the rest of these.
type receiver struct {
	socket *lease.Socket
	owner  *Client
	xid    dhcpv4.TransactionID
	stop   chan struct{}
	done   chan struct{} // closed by run
}

// A client reads at most Burst messages of a server at once, and one more in each Pause.
const (
	Burst = 16
	Pause = 20 * time.Millisecond
)

func (c *Client) hear(s *lease.Socket, xid dhcpv4.TransactionID) *receiver {
	r := &receiver{socket: s, owner: c, xid: xid, stop: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

func (r *receiver) run() {
	defer close(r.done)
	buf := make([]byte, 4096)
	tokens, filled := Burst, time.Now()
	for {
		bytesRead, err := r.socket.Receive(buf)
		if err != nil {
			return // closed, or the link is down: the next carrier opens another one
		}
		message := bytes.Clone(bytesRead)
		select {
		case r.owner.cfg.Owner.Events <- func(at time.Duration) { r.owner.receive(at, r, message) }:
		case <-r.stop:
			return
		}
		if gained := int(time.Since(filled) / Pause); gained > 0 {
			tokens, filled = min(tokens+gained, Burst), time.Now()
		}
		if tokens--; tokens > 0 {
			continue
		}
		select {
		case <-time.After(Pause):
		case <-r.stop:
			return
		}
	}
}

// close ends the receiver and waits for it.
func (r *receiver) close() {
	close(r.stop)
	r.socket.Close() // nobody needs the rest
	<-r.done
}

// listen opens, changes or closes the client's receiver as its machine demands.
func (c *Client) listen(at time.Duration) {
	xid, on := c.machine.Listening()
	if !on {
		c.hush()
		return
	}
	if c.receiver != nil && c.receiver.alive() {
		if c.receiver.xid != xid {
			c.receiver.xid = xid
			if err := c.receiver.socket.Expect(xid); err != nil {
				c.note(at, err.Error())
			}
		}
		return
	}
	c.hush()
	s, err := lease.Open(c.cfg.Link.Index, c.cfg.Link.Name, c.hardware(), xid)
	if err != nil {
		c.note(at, err.Error())
		return
	}
	c.receiver = c.hear(s, xid)
}

// alive reports whether the receiver still reads.
func (r *receiver) alive() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// hush closes the receiver. The kernel frees a packet socket once each processor has passed a quiet state, which takes
// about 10 ms. The client continues meanwhile: with a new lease it sets the address now.
func (c *Client) hush() {
	if c.receiver != nil {
		c.tasks.Go(c.receiver.close)
		c.receiver = nil
	}
}

// send sends a message. The machine's timer repeats one that cannot be sent, like one that was lost.
func (c *Client) send(at time.Duration, a lease.Action) {
	if c.receiver == nil {
		return // logged already
	}
	var err error
	if a.Verb == lease.Unicast {
		err = c.receiver.socket.Unicast(a.Message, a.To)
	} else {
		err = c.receiver.socket.Broadcast(a.Message)
	}
	if err != nil {
		c.note(at, err.Error())
		return
	}
	c.cfg.Log.Debug("message sent", "message", a.Message.MessageType().String(), "to", a.To)
}

// The limits of note.
const (
	noteEvery = 10 * time.Minute
	noteKinds = 32
)

// note logs an unusual act of a server or the kernel: each text once as a warning, and at most noteKinds texts in
// noteEvery. Neither a flood of equal notes nor one of new ones fills the log or the memory.
func (c *Client) note(at time.Duration, reason string) {
	if at-c.noting >= noteEvery || c.noted == nil {
		c.noting, c.noted = at, map[string]bool{}
	}
	if c.noted[reason] || len(c.noted) >= noteKinds {
		c.cfg.Log.Debug("dhcp remark", "reason", reason)
		return
	}
	c.noted[reason] = true
	c.cfg.Log.Warn("dhcp remark", "reason", reason)
}

// random returns a transaction id that a stranger cannot guess.
func random() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.NativeEndian.Uint32(b[:])
}
