package autoconf

import (
	"bytes"
	"time"

	"resinos/net/dhcp6"
)

// receiver reads the socket of the DHCPv6 client, at most one message in each pause: a server sends one or two, a flood
// thousands, and the kernel drops the rest of these.
type receiver struct {
	socket *dhcp6.Socket
	stop   chan struct{}
	done   chan struct{} // closed by run
}

const pause = 20 * time.Millisecond

// listen opens or closes the socket as the machines demand.
func (s *Source) listen() {
	on := s.machine.Listening() || s.prefixes.Listening()
	switch {
	case !on:
		s.hush()
	case s.receiver == nil:
		socket, err := dhcp6.Open(s.cfg.Link.Name)
		if err != nil {
			s.note(err.Error())
			return
		}
		s.receiver = &receiver{socket: socket, stop: make(chan struct{}), done: make(chan struct{})}
		go s.receiver.run(s)
	}
}

func (s *Source) hush() {
	if r := s.receiver; r != nil {
		s.receiver = nil
		close(r.stop)
		r.socket.Close() // nobody needs the rest
		<-r.done
	}
}

func (r *receiver) run(s *Source) {
	defer close(r.done)
	buf := make([]byte, 4096)
	for {
		p, err := r.socket.Receive(buf)
		if err != nil {
			return // closed
		}
		p = bytes.Clone(p)
		select {
		case s.cfg.Owner.Events <- func(at time.Duration) { s.receive(at, r, p) }:
		case <-r.stop:
			return
		}
		select {
		case <-time.After(pause):
		case <-r.stop:
			return
		}
	}
}

// receive processes a message, unless its receiver has been closed meanwhile.
func (s *Source) receive(at time.Duration, from *receiver, p []byte) {
	if s.receiver != from {
		return
	}
	m, err := dhcp6.Parse(p, s.cfg.DUID)
	if err != nil {
		s.note(err.Error())
		return
	}
	for _, machine := range s.machines() { // each knows its own exchange
		s.carry(at, machine.Reply(at, m))
	}
}
