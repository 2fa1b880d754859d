package nameserver

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// header is the size of the part that each message begins with (RFC 1035, 4.1.1).
const header = 12

// packets answers the questions that come to a socket of UDP until it is closed. What the device knows itself is
// answered at once: a goroutine for each question, as dns.Server has, halves the rate. Only questions for other servers
// wait beside the loop, so many at once as there are slots.
func (s *Server) packets(conn *net.UDPConn, k *socket, slots chan struct{}) error {
	in, out := make([]byte, dns.DefaultMsgSize), make([]byte, dns.DefaultMsgSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		q := new(dns.Msg)
		err = q.Unpack(in[:n])
		if n < header || q.Response {
			continue
		}
		var reply *dns.Msg
		client, known := (*k.zone.Load())[from.Addr().Unmap()]
		switch {
		case !known:
			reply = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		case err != nil:
			reply = new(dns.Msg).SetRcodeFormatError(q)
		default:
			reply = local(q, client)
		}
		if reply != nil {
			send(conn, from, q, reply, out)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue // like a lost packet: the client asks again
		}
		k.asking.Go(func() {
			defer func() { <-slots }()
			send(conn, from, q, s.further(q, client, "udp"), nil)
		})
	}
}

// send packs a reply into buf, or elsewhere if that is too small, and sends as much as the client takes.
func send(conn *net.UDPConn, to netip.AddrPort, q, reply *dns.Msg, buf []byte) {
	p, err := reply.PackBuffer(buf)
	if err == nil && len(p) > size(q) {
		reply.Truncate(size(q))
		p, err = reply.PackBuffer(buf)
	}
	if err == nil { // else a server answered what cannot be passed on: the client asks again
		_, _ = conn.WriteToUDPAddrPort(p, to) // the client may be gone
	}
}

// settle waits a moment for the questions that other servers have not answered yet.
func (k *socket) settle() {
	done := make(chan struct{})
	go func() { k.asking.Wait(); close(done) }() // ends with the last question, after patience
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
