package forward

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/dnswire"
	"resinos/net/link/linktest"
	"resinos/net/resolv"
	"resinos/services/notify"
)

// server is a name server under the test's control, on port 53 of an address of loopback.
type server struct {
	address netip.Addr
	asked   atomic.Int64
	tcp     atomic.Int64
	close   func()
}

// serve starts a server; handle writes what it answers.
func serve(t *testing.T, address string, handle func(w dns.ResponseWriter, q *dns.Msg)) *server {
	t.Helper()
	s := &server{address: netip.MustParseAddr(address)}
	packets, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	count := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s.asked.Add(1)
		if _, stream := w.RemoteAddr().(*net.TCPAddr); stream {
			s.tcp.Add(1)
		}
		handle(w, q)
	})
	for _, one := range []*dns.Server{{PacketConn: packets, Handler: count}, {Listener: streams, Handler: count}} {
		go one.ActivateAndServe() // ends with its socket
	}
	s.close = sync.OnceFunc(func() { packets.Close(); streams.Close() })
	t.Cleanup(s.close)
	return s
}

// with answers each question with one record of the address.
func with(address string, ttl int) func(w dns.ResponseWriter, q *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(answered(q, address, ttl)) }
}

func answered(q *dns.Msg, address string, ttl int) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	if rr, err := dns.NewRR(fmt.Sprintf("%s %d A %s", q.Question[0].Name, ttl, address)); err == nil {
		m.Answer = []dns.RR{rr}
	}
	return m
}

var t0 = time.Unix(1e9, 0)

func silent(dns.ResponseWriter, *dns.Msg) {}

// isolate gives the test a network of its own, in which only loopback is up.
func isolate(t *testing.T) bool {
	t.Helper()
	if !linktest.Isolate(t) {
		return false
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

// start runs a forwarder that asks these sources.
func start(t *testing.T, cfg Config, sources ...resolv.Source) *Forwarder {
	t.Helper()
	var err error
	cfg.Packets, cfg.Streams, err = Listen(netip.AddrPortFrom(Address, port), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := New(cfg)
	f.Set(sources)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return f
}

func asks(servers ...*server) resolv.Source {
	s := resolv.Source{Link: "eth0", Metric: 100}
	for _, one := range servers {
		s.Servers = append(s.Servers, one.address)
	}
	return s
}

// look asks the forwarder. The result is its first address, or the response code.
func look(t *testing.T, network, name string) string {
	t.Helper()
	m := exchange(t, network, name, dns.TypeA)
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			return a.A.String()
		}
	}
	return dns.RcodeToString[m.Rcode]
}

func exchange(t *testing.T, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, Timeout: testenv.Patience()}
	m, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), "127.0.0.2:53")
	if err != nil {
		t.Fatalf("ask for %s: %v", name, err)
	}
	return m
}

func TestChoose(t *testing.T) {
	at := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	lease := resolv.Source{Link: "eth0", Metric: 100, Servers: at("10.0.0.1"), Search: []string{"lab.example"}}
	vpn := resolv.Source{Link: "wg0", Metric: 50, Servers: at("10.9.0.1"),
		Domains: []string{"corp.example", "b.lab.example"}}
	owner := resolv.Source{Link: "config.json", Metric: -1, Servers: at("9.9.9.9")}
	public := resolv.Source{Link: "config.json", Metric: -1, Servers: at("8.8.8.8"), Fallback: true}
	for _, c := range []struct {
		name    string
		sources []resolv.Source
		want    string
	}{
		{"www.example.org", []resolv.Source{lease, vpn}, "10.9.0.1 10.0.0.1"},
		{"www.example.org", []resolv.Source{lease, owner}, "9.9.9.9 10.0.0.1"},
		{"www.example.org", []resolv.Source{lease, public}, "10.0.0.1"},
		{"www.example.org", []resolv.Source{public}, "8.8.8.8"},
		{"a.lab.example", []resolv.Source{lease, vpn, owner}, "10.0.0.1"},
		{"a.b.lab.example", []resolv.Source{lease, vpn, owner}, "10.9.0.1"},
		{"corp.example", []resolv.Source{lease, vpn}, "10.9.0.1"},
		{"notcorp.example", []resolv.Source{lease, vpn}, "10.9.0.1 10.0.0.1"},
		{"printer", []resolv.Source{public}, ""},
		{"printer.lan", []resolv.Source{public}, ""},
		{"1.1.168.192.in-addr.arpa", []resolv.Source{public}, ""},
		{"1.1.8.8.in-addr.arpa", []resolv.Source{public}, "8.8.8.8"},
		{"printer", []resolv.Source{lease, public}, "10.0.0.1"},
		{"printer", nil, ""},
		{"itself.example", []resolv.Source{{Link: "x", Servers: at("127.0.0.2")}}, ""},
	} {
		var got []string
		for _, s := range choose(routesOf(c.sources), dnswire.Must(c.name)) {
			got = append(got, s.Addr().String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("servers for %s = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestForward(t *testing.T) {
	if !isolate(t) {
		return
	}
	up := serve(t, "127.0.0.10", func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, "192.0.2.1", 60)
		switch {
		case strings.HasPrefix(strings.ToLower(q.Question[0].Name), "big."):
			for i := range 100 {
				rr, _ := dns.NewRR(fmt.Sprintf("%s 60 A 10.0.0.%d", q.Question[0].Name, i))
				m.Answer = append(m.Answer, rr)
			}
		case strings.HasPrefix(strings.ToLower(q.Question[0].Name), "none."):
			m = new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			soa, _ := dns.NewRR("org. 600 SOA ns. host. 1 2 3 4 60")
			m.Ns = []dns.RR{soa}
		}
		if _, packet := w.RemoteAddr().(*net.UDPAddr); packet {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m)
	})
	f := start(t, Config{}, asks(up))
	for range 3 {
		for _, c := range []struct{ network, name, want string }{
			{"udp", "www.example.org", "192.0.2.1"}, {"tcp", "WWW.example.org", "192.0.2.1"},
			{"udp", "none.example.org", "NXDOMAIN"}, {"tcp", "big.example.org", "192.0.2.1"},
			{"udp", "localhost", "127.0.0.1"}, {"udp", "x.onion", "NXDOMAIN"},
		} {
			if got := look(t, c.network, c.name); got != c.want {
				t.Errorf("%s over %s is %s, want %s", c.name, c.network, got, c.want)
			}
		}
	}
	if m := exchange(t, "udp", "big.example.org", dns.TypeA); !m.Truncated {
		t.Error("a long answer fits into a datagram of 512 bytes")
	}
	if m := exchange(t, "tcp", "big.example.org", dns.TypeA); len(m.Answer) != 101 {
		t.Errorf("%d answers over TCP, want 101", len(m.Answer))
	}
	if n := up.asked.Load(); n != 4 { // three names, one of them over TCP too
		t.Errorf("the server was asked %d times, want 4", n)
	}
	f.Set(nil)
	if got := look(t, "udp", "other.example.org"); got != "SERVFAIL" {
		t.Errorf("without a server: %s", got)
	}
	f.Set([]resolv.Source{{Servers: []netip.Addr{up.address}, Fallback: true}})
	if got := look(t, "udp", "printer.lan"); got != "NXDOMAIN" {
		t.Errorf("a private name with only the fallback: %s", got)
	}
	if n := up.asked.Load(); n != 4 {
		t.Error("the fallback was asked for a private name")
	}
}

// TestNextServer: silent, refusing, failing and lying servers cost no answer, and the next question avoids a silent
// one.
func TestNextServer(t *testing.T) {
	if !isolate(t) {
		return
	}
	good := serve(t, "127.0.0.20", with("192.0.2.1", 60))
	quiet := serve(t, "127.0.0.10", silent)
	failing := func(code int) func(w dns.ResponseWriter, q *dns.Msg) {
		return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
	}
	looping := serve(t, "127.0.0.13", func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		one, _ := dns.NewRR(q.Question[0].Name + " 60 CNAME loop.example.")
		two, _ := dns.NewRR("loop.example. 60 CNAME " + q.Question[0].Name)
		m.Answer = []dns.RR{one, two}
		_ = w.WriteMsg(m)
	})
	f := start(t, Config{})
	for i, bad := range []*server{quiet, serve(t, "127.0.0.11", failing(dns.RcodeServerFailure)),
		serve(t, "127.0.0.12", failing(dns.RcodeRefused)), looping, {address: netip.MustParseAddr("127.0.0.99")}} {
		f.Set([]resolv.Source{asks(bad, good)})
		if got := look(t, "udp", fmt.Sprintf("n%d.example", i)); got != "192.0.2.1" {
			t.Errorf("behind a bad server %d: %s", i, got)
		}
	}
	f.Set([]resolv.Source{asks(quiet, good)})
	before := quiet.asked.Load()
	for i := range 20 {
		if got := look(t, "udp", fmt.Sprintf("m%d.example", i)); got != "192.0.2.1" {
			t.Errorf("question %d: %s", i, got)
		}
	}
	if n := quiet.asked.Load() - before; n > 5 { // one, and on a slow host a few where the good one seemed silent
		t.Errorf("the silent server was asked %d times of 20", n)
	}
	f.Set([]resolv.Source{asks(looping)})
	if got := look(t, "udp", "loop.example.org"); got != "SERVFAIL" {
		t.Errorf("a loop of CNAMEs: %s", got)
	}
}

// TestOldServers: servers without EDNS, and those that do not repeat the spelling, are understood.
func TestOldServers(t *testing.T) {
	if !isolate(t) {
		return
	}
	old := serve(t, "127.0.0.10", func(w dns.ResponseWriter, q *dns.Msg) {
		if q.IsEdns0() != nil {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeFormatError))
			return
		}
		_ = w.WriteMsg(answered(q, "192.0.2.1", 60))
	})
	small := serve(t, "127.0.0.11", func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, "192.0.2.2", 60)
		if _, packet := w.RemoteAddr().(*net.UDPAddr); packet {
			m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		}
		_ = w.WriteMsg(m)
	})
	f := start(t, Config{}, asks(old))
	if got := look(t, "udp", "www.example.org"); got != "192.0.2.1" {
		t.Errorf("without EDNS: %s", got)
	}
	f.Set([]resolv.Source{asks(small)})
	if got := look(t, "udp", "www.example.net"); got != "192.0.2.2" || small.tcp.Load() == 0 {
		t.Errorf("with another spelling: %s, asked %d times over TCP", got, small.tcp.Load())
	}
}

// TestStale: an old answer is given when the servers are gone, and a new one as soon as they are back.
func TestStale(t *testing.T) {
	if !isolate(t) {
		return
	}
	up := serve(t, "127.0.0.10", with("192.0.2.1", 1))
	f := start(t, Config{}, asks(up))
	if got := look(t, "udp", "www.example.org"); got != "192.0.2.1" {
		t.Fatalf("answer %s", got)
	}
	up.close()
	testenv.WaitFor(t, "an old answer", func() bool {
		m := exchange(t, "udp", "www.example.org", dns.TypeA)
		return len(m.Answer) == 1 && m.Answer[0].Header().Ttl == uint32(staleLifetime.Seconds())
	})
	up = serve(t, "127.0.0.10", with("192.0.2.2", 60))
	f.Set([]resolv.Source{asks(up, up)}) // the network has changed
	f.Set([]resolv.Source{{Link: "eth1", Servers: []netip.Addr{up.address}, Search: []string{"changed.example"}}})
	if got := look(t, "udp", "www.example.org"); got != "192.0.2.2" {
		t.Errorf("answer %s after the server is back", got)
	}
}

// TestSameQuestion: many clients with one question make one question to the server.
func TestSameQuestion(t *testing.T) {
	if !isolate(t) {
		return
	}
	release := make(chan struct{})
	up := serve(t, "127.0.0.10", func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		with("192.0.2.1", 60)(w, q)
	})
	f := start(t, Config{}, asks(up))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got := look(t, "udp", "www.example.org"); got != "192.0.2.1" {
				t.Errorf("answer %s", got)
			}
		})
	}
	testenv.WaitFor(t, "all clients wait", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, one := range f.flights {
			return len(one.waiters) == 20
		}
		return false
	})
	close(release)
	all.Wait()
	if n := up.asked.Load(); n > 2 { // it is asked again after a while, on a slow host
		t.Errorf("the server was asked %d times", n)
	}
}

// TestForgedReplies: the server's address sends replies with wrong ids, names and spellings, others send right ones.
func TestForgedReplies(t *testing.T) {
	if !isolate(t) {
		return
	}
	stranger, err := net.ListenPacket("udp", "127.0.0.66:53")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	up := serve(t, "127.0.0.10", func(w dns.ResponseWriter, q *dns.Msg) {
		if _, stream := w.RemoteAddr().(*net.TCPAddr); stream {
			with("192.0.2.1", 60)(w, q)
			return
		}
		right := answered(q, "6.6.6.6", 60)
		if p, err := right.Pack(); err == nil {
			_, _ = stranger.WriteTo(p, w.RemoteAddr()) // all of it guessed, from the wrong address
		}
		for i := range 200 {
			m := right.Copy()
			if i%2 == 0 {
				m.Id += uint16(i + 1)
			} else {
				m.Question[0].Name = "x" + m.Question[0].Name[1:]
			}
			_ = w.WriteMsg(m)
		}
		with("192.0.2.1", 60)(w, q)
	})
	start(t, Config{}, asks(up))
	for i := range 50 {
		if got := look(t, "udp", fmt.Sprintf("name%d.example", i)); got != "192.0.2.1" {
			t.Fatalf("question %d: %s", i, got)
		}
	}
	if up.tcp.Load() == 0 {
		t.Error("a flood of forged replies was read to its end")
	}
}

// TestFlood: questions for ever new names do not take more goroutines and memory than the limits say, and what is known
// is still answered.
func TestFlood(t *testing.T) {
	if !isolate(t) {
		return
	}
	up := serve(t, "127.0.0.10", func(w dns.ResponseWriter, q *dns.Msg) {
		if strings.HasPrefix(strings.ToLower(q.Question[0].Name), "known.") {
			with("192.0.2.1", 3600)(w, q)
		}
	})
	f := start(t, Config{}, asks(up))
	if got := look(t, "udp", "known.example"); got != "192.0.2.1" {
		t.Fatalf("answer %s", got)
	}
	before := runtime.NumGoroutine()
	conn, err := net.Dial("udp", "127.0.0.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	most := 0
	for i := range 20000 {
		m := new(dns.Msg).SetQuestion(fmt.Sprintf("flood%d.example.", i), dns.TypeA)
		p, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			most = max(most, runtime.NumGoroutine())
			f.mu.Lock()
			if len(f.flights) > maxFlights || len(f.cache.entries) > maxEntries {
				t.Errorf("%d questions wait, %d answers are kept", len(f.flights), len(f.cache.entries))
			}
			f.mu.Unlock()
		}
	}
	if limit := before + 4*maxFlights; most > limit { // the server of this test has goroutines too
		t.Errorf("%d goroutines, at most %d", most, limit)
	}
	testenv.WaitFor(t, "an answer behind the flood", func() bool { // the queue of the socket drops questions
		client := dns.Client{Timeout: testenv.Patience() / 10}
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion("known.example.", dns.TypeA), "127.0.0.2:53")
		return err == nil && len(m.Answer) == 1
	})
}

func TestCacheIsBounded(t *testing.T) {
	question := dnswire.Question{Name: dnswire.Must("x.example"), Type: dnswire.TypeA, Class: dnswire.ClassIN}
	sent := question.Ask(1, nil, false)
	m := new(dns.Msg)
	if err := m.Unpack(sent.Bytes); err != nil {
		t.Fatal(err)
	}
	m = answered(m, "192.0.2.1", 3600)
	for range 100 {
		m.Answer = append(m.Answer, m.Answer[0])
	}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := sent.ParseReply(p)
	if err != nil {
		t.Fatal(err)
	}
	var c cache
	for i := range 3 * maxEntries {
		q := question
		q.Name = dnswire.Must(fmt.Sprintf("n%d.example", i))
		c.keep(q, reply, t0)
	}
	sum := 0
	for at := c.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		sum += e.reply.Size() + len(e.question.Name)
	}
	if len(c.entries) > maxEntries || c.bytes > maxBytes || sum != c.bytes || c.order.Len() != len(c.entries) {
		t.Errorf("%d answers, %d bytes counted, %d there", len(c.entries), c.bytes, sum)
	}
	last := question
	last.Name = dnswire.Must(fmt.Sprintf("n%d.example", 3*maxEntries-1))
	if c.find(last, t0) == nil {
		t.Error("the newest answer is gone")
	}
	if c.find(last, t0.Add(reply.Lifetime+maxStale+1)) != nil {
		t.Error("an answer is kept for ever")
	}
}

// TestSlowStreams: connections that send nothing take up all places for TCP, and no other question suffers.
func TestSlowStreams(t *testing.T) {
	if !isolate(t) {
		return
	}
	f := start(t, Config{}, asks(serve(t, "127.0.0.10", with("192.0.2.1", 60))))
	for range 2 * maxStreams {
		conn, err := net.Dial("tcp", "127.0.0.2:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{0}) // half a length; the forwarder may have closed it
	}
	testenv.WaitFor(t, "all places are taken", func() bool { return len(f.slots) == maxStreams })
	if got := look(t, "udp", "www.example.org"); got != "192.0.2.1" {
		t.Errorf("answer %s", got)
	}
	testenv.WaitFor(t, "the slow ones are cut off", func() bool { return len(f.slots) == 0 })
	if got := look(t, "tcp", "www.example.org"); got != "192.0.2.1" {
		t.Errorf("answer %s", got)
	}
}

// TestKeptSockets: a question that came while nobody listened is answered by the next forwarder.
func TestKeptSockets(t *testing.T) {
	if !isolate(t) {
		return
	}
	up := serve(t, "127.0.0.10", with("192.0.2.1", 60))
	packets, streams, err := Listen(netip.AddrPortFrom(Address, port), nil)
	if err != nil {
		t.Fatal(err)
	}
	var kept []notify.Inherited
	for name, socket := range map[string]any{keptPackets: packets, keptStreams: streams} {
		file, err := socket.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, notify.Inherited{FD: int(file.Fd()), Name: name})
	}
	packets.Close()
	streams.Close()
	answers := make(chan string, 1)
	go func() { answers <- look(t, "tcp", "www.example.org") }()
	f := New(Config{})
	if f.cfg.Packets, f.cfg.Streams, err = Listen(netip.AddrPortFrom(Address, port), kept); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	testenv.NeverReceive(t, 100*time.Millisecond, "an answer before there are servers", answers)
	f.Set([]resolv.Source{asks(up)})
	if got := testenv.Receive(t, "an answer", answers); got != "192.0.2.1" {
		t.Errorf("over the kept socket: %s", got)
	}
	if got := look(t, "udp", "www.example.org"); got != "192.0.2.1" {
		t.Errorf("by datagram: %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLocal: the names of the local domain go to Local, unless a link has the domain.
func TestLocal(t *testing.T) {
	if !isolate(t) {
		return
	}
	up := serve(t, "127.0.0.10", with("192.0.2.1", 60))
	local := func(_ context.Context, q dnswire.Question) ([][]byte, bool) {
		return [][]byte{{10, 0, 0, 7}}, q.Name == dnswire.Must("device.local")
	}
	f := start(t, Config{LocalDomain: dnswire.Must("local"), Local: local}, asks(up))
	if got := look(t, "udp", "Device.local"); got != "10.0.0.7" {
		t.Errorf("answer %s", got)
	}
	if got := look(t, "udp", "other.local"); got != "NXDOMAIN" || up.asked.Load() != 0 {
		t.Errorf("answer %s, and the server was asked %d times", got, up.asked.Load())
	}
	own := asks(up)
	own.Search = []string{"local"}
	f.Set([]resolv.Source{own})
	if got := look(t, "udp", "third.local"); got != "192.0.2.1" {
		t.Errorf("answer %s in a network that has the domain", got)
	}
}
