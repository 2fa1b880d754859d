package nameserver

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"resinos/mounts/testenv"
)

// TestPackets: what is no question gets the answer that it deserves, or none, and the server goes on.
func TestPackets(t *testing.T) {
	s := &Server{Upstream: func() []string { return nil }, Log: slog.New(slog.DiscardHandler)}
	defer s.Close()
	port := freePort(t)
	zones := map[netip.Addr]Zone{here: {here: {Names: map[string][]netip.Addr{"web": {here}}, Closed: true}}}
	if err := s.Set(zones, port); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(here, port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	question := func(change func(*dns.Msg)) []byte {
		q := new(dns.Msg).SetQuestion("web.", dns.TypeA)
		change(q)
		p, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole := question(func(*dns.Msg) {})
	for name, c := range map[string]struct {
		packet []byte
		want   int // code of the answer; -1: there is none
	}{
		"question":   {whole, dns.RcodeSuccess},
		"no message": {[]byte("x"), -1},
		"empty":      {nil, -1},
		"cut":        {whole[:len(whole)-3], dns.RcodeFormatError},
		"head alone": {whole[:header], dns.RcodeFormatError},
		"an answer":  {question(func(q *dns.Msg) { q.Response = true }), -1},
		"an update":  {question(func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }), dns.RcodeFormatError},
		"two questions": {question(func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }),
			dns.RcodeFormatError},
		"other name": {question(func(q *dns.Msg) { q.Question[0].Name = "x." }), dns.RcodeNameError},
	} {
		if _, err := conn.Write(c.packet); err != nil {
			t.Fatal(err)
		}
		if c.want >= 0 {
			if got := receive(t, conn); got.Rcode != c.want {
				t.Errorf("%s: %s", name, dns.RcodeToString[got.Rcode])
			}
			continue
		}
		if _, err := conn.Write(whole); err != nil { // the first answer is that of the next question
			t.Fatal(err)
		}
		if got := receive(t, conn); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func receive(t *testing.T, conn *net.UDPConn) *dns.Msg {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(testenv.Patience())); err != nil {
		t.Fatal(err)
	}
	buf, m := make([]byte, dns.DefaultMsgSize), new(dns.Msg)
	n, err := conn.Read(buf)
	if err == nil {
		err = m.Unpack(buf[:n])
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}
