package nameserver

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"resinos/mounts/testenv"
)

var here = netip.MustParseAddr("127.0.0.1")

// upstream is a server that answers every A with address, and many of them for big.
func upstream(t *testing.T, address string) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp4", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	handle := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		n := 1
		if strings.HasPrefix(q.Question[0].Name, "big.") {
			n = 200
		}
		for range n {
			rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN A %s", q.Question[0].Name, address))
			if err != nil {
				t.Error(err)
			}
			reply.Answer = append(reply.Answer, rr)
		}
		if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
			reply.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(reply) // who asked may have left
	})
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handle}, {Listener: streams, Handler: handle}} {
		go s.ActivateAndServe() // ends with its socket
	}
	t.Cleanup(func() { packets.Close(); streams.Close() })
	return packets.LocalAddr().String()
}

// freePort is one that nobody has now, for both protocols.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func query(network, name string, kind uint16, port uint16) (*dns.Msg, error) {
	client := dns.Client{Net: network, Timeout: testenv.Patience()}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, kind), fmt.Sprintf("127.0.0.1:%d", port))
	return reply, err
}

func TestServer(t *testing.T) {
	port := freePort(t)
	var servers atomic.Pointer[[]string]
	servers.Store(&[]string{"127.0.0.1:1", upstream(t, "192.0.2.1")}) // the first is dead
	s := &Server{Upstream: func() []string { return *servers.Load() }, Log: slog.New(slog.DiscardHandler)}
	defer s.Close()
	client := Client{Names: map[string][]netip.Addr{"web": {netip.MustParseAddr("10.0.0.2"),
		netip.MustParseAddr("10.0.0.3")}}}
	if err := s.Set(map[netip.Addr]Zone{here: {here: client}}, port); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network, name string
		kind          uint16
		code, answers int
		first         string
	}{
		{"udp", "web.", dns.TypeA, dns.RcodeSuccess, 2, "10.0.0.2"},
		{"tcp", "WEB.", dns.TypeA, dns.RcodeSuccess, 2, "10.0.0.2"},
		// not "no such name", which resolvers take for all types
		{"udp", "web.", dns.TypeAAAA, dns.RcodeSuccess, 0, ""},
		{"udp", "example.org.", dns.TypeA, dns.RcodeSuccess, 1, "192.0.2.1"},
		{"tcp", "big.example.org.", dns.TypeA, dns.RcodeSuccess, 200, "192.0.2.1"},
	} {
		reply, err := query(c.network, c.name, c.kind, port)
		if err != nil {
			t.Errorf("%s %s: %v", c.network, c.name, err)
			continue
		}
		if reply.Rcode != c.code || len(reply.Answer) != c.answers || c.first != "" &&
			reply.Answer[0].(*dns.A).A.String() != c.first {
			t.Errorf("%s %s: %v", c.network, c.name, reply)
		}
	}
	if reply, err := query("udp", "big.example.org.", dns.TypeA, port); err != nil || !reply.Truncated {
		t.Errorf("a long answer by datagram is not truncated: %v", err)
	}

	servers.Store(&[]string{})
	if reply, err := query("udp", "example.org.", dns.TypeA, port); err != nil ||
		reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("without servers: %v, %v", reply, err)
	}
	servers.Store(&[]string{upstream(t, "192.0.2.2")}) // a resolver that comes back
	if reply, err := query("udp", "example.org.", dns.TypeA, port); err != nil || len(reply.Answer) != 1 {
		t.Errorf("with servers again: %v, %v", reply, err)
	}

	client.Upstream = []string{upstream(t, "192.0.2.3")}
	if err := s.Set(map[netip.Addr]Zone{here: {here: client}}, port); err != nil {
		t.Fatal(err)
	}
	if reply, err := query("udp", "example.org.", dns.TypeA, port); err != nil || len(reply.Answer) != 1 ||
		reply.Answer[0].(*dns.A).A.String() != "192.0.2.3" {
		t.Errorf("with a server of its own: %v, %v", reply, err)
	}
	if err := s.Set(map[netip.Addr]Zone{here: {here: {Closed: true}}}, port); err != nil {
		t.Fatal(err)
	}
	if reply, err := query("udp", "example.org.", dns.TypeA, port); err != nil || reply.Rcode != dns.RcodeNameError {
		t.Errorf("from a closed network: %v, %v", reply, err)
	}
	if err := s.Set(map[netip.Addr]Zone{here: {}}, port); err != nil {
		t.Fatal(err)
	}
	if reply, err := query("udp", "web.", dns.TypeA, port); err != nil || reply.Rcode != dns.RcodeRefused {
		t.Errorf("from a stranger: %v, %v", reply, err)
	}
	if err := s.Set(nil, port); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("the socket is still there: %v", err)
	}
	l.Close()
}

func FuzzLocal(f *testing.F) {
	good, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		q := new(dns.Msg)
		if q.Unpack(data) != nil {
			return
		}
		for _, closed := range []bool{true, false} {
			if reply := local(q, Client{Closed: closed}); closed && reply == nil {
				t.Errorf("no answer to %v", q)
			}
		}
	})
}
