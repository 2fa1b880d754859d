package autoconf

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/ndwatch"
)

// newSource returns the source of a link that is not there, so that nothing is sent, and a count of its changes.
func newSource(t *testing.T, change func(*Config)) (s *Source, changes *int) {
	changes = new(int)
	cfg := Config{
		Link: link.Link{Index: 1 << 20, Name: "none0"}, Metric: 100, DUID: dhcp6.DUID("", "device", nil),
		Hostname: func() string { return "" }, Hold: 5 * time.Second, Random: func() uint32 { return 7 },
		Owner: linksource.Owner{Configure: func(time.Duration) {}, NamesChanged: func() { *changes++ }},
		Log:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s = New(cfg)
	t.Cleanup(s.Close)
	return s, changes
}

func server(last byte, lifetime time.Duration) ndwatch.Server {
	return ndwatch.Server{Addr: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: last}), Lifetime: lifetime}
}

func wantNames(t *testing.T, s *Source, want string) {
	t.Helper()
	got, any := s.Names()
	if text := fmt.Sprint(got.Servers, got.Search); text != want || any != (want != "[] []") {
		t.Errorf("names %s, %t, want %s", text, any, want)
	}
}

func TestLifetimes(t *testing.T) {
	s, changes := newSource(t, nil)
	s.Carrier(time.Second, true)
	both := []ndwatch.Server{server(1, 60*time.Second), server(2, 30*time.Second)}
	domains := []ndwatch.Domain{{Name: "Lab.Example", Lifetime: time.Hour}}
	s.Router(10*time.Second, ndwatch.Event{Servers: both, Domains: domains})
	wantNames(t, s, "[2001:db8::1 2001:db8::2] [lab.example]")
	if at := s.Deadline(); at != 40*time.Second {
		t.Errorf("deadline %s, want 40s", at)
	}
	s.Router(20*time.Second, ndwatch.Event{Servers: []ndwatch.Server{server(1, 60*time.Second)}}) // again
	if *changes != 1 {
		t.Errorf("%d changes, want one: a repetition is none", *changes)
	}
	s.Tick(40 * time.Second)
	wantNames(t, s, "[2001:db8::1] [lab.example]")
	s.Tick(70 * time.Second)
	wantNames(t, s, "[2001:db8::1] [lab.example]")
	s.Router(71*time.Second, ndwatch.Event{Servers: []ndwatch.Server{server(1, 0)}}) // taken back
	wantNames(t, s, "[] [lab.example]")
	s.Carrier(80*time.Second, false)
	s.Tick(84 * time.Second)
	wantNames(t, s, "[] [lab.example]")
	s.Tick(85 * time.Second)
	wantNames(t, s, "[] []")
	if s.Deadline() != 0 {
		t.Errorf("deadline %s without anything to end", s.Deadline())
	}
}

// TestFlood: a router that names new servers all the time fills no memory.
func TestFlood(t *testing.T) {
	s, _ := newSource(t, nil)
	for i := range 10000 {
		a := netip.AddrFrom16([16]byte{0: 0x20, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		s.Router(time.Second, ndwatch.Event{Servers: []ndwatch.Server{{Addr: a, Lifetime: time.Hour}},
			Domains: []ndwatch.Domain{{Name: fmt.Sprintf("n%d", i), Lifetime: time.Hour}}})
	}
	if n, _ := s.Names(); len(n.Servers) != maxServers || len(n.Search) != maxDomains {
		t.Errorf("%d servers and %d domains", len(n.Servers), len(n.Search))
	}
}

func TestIgnored(t *testing.T) {
	s, _ := newSource(t, func(c *Config) { c.IgnoreDNS = true })
	s.Router(time.Second, ndwatch.Event{Servers: []ndwatch.Server{server(1, time.Hour)}})
	wantNames(t, s, "[] []")
}

// TestLinkLocalServer: a link-local address means nothing without its link.
func TestLinkLocalServer(t *testing.T) {
	s, _ := newSource(t, nil)
	one := ndwatch.Server{Addr: netip.MustParseAddr("fe80::1"), Lifetime: time.Hour}
	s.Router(time.Second, ndwatch.Event{Servers: []ndwatch.Server{one}})
	wantNames(t, s, "[fe80::1%none0] []")
}

// TestAdopted: addresses that an earlier netd got from a DHCPv6 server stay until their end, and no others.
func TestAdopted(t *testing.T) {
	s, _ := newSource(t, nil)
	of := func(prefix string, valid time.Duration, ours bool) link.Address {
		return link.Address{Prefix: netip.MustParsePrefix(prefix), Valid: valid, Ours: ours}
	}
	s.Adopt(time.Minute, link.Actual{Addresses: []link.Address{
		of("2001:db8::5/128", time.Hour, true), of("2001:db8::6/64", time.Hour, true),
		of("2001:db8::7/128", time.Hour, false),
		of("2001:db8::8/128", link.Forever, true), of("10.0.0.1/32", time.Hour, true),
	}}, dhcp6.Lease{})
	var w link.Wanted
	s.Want(31*time.Minute, &w)
	if len(w.Addresses) != 1 || w.Addresses[0].String() != "2001:db8::5/128 valid 30m0s" {
		t.Errorf("wanted %v", w.Addresses)
	}
	s.Tick(61 * time.Minute)
	w = link.Wanted{}
	if s.Want(61*time.Minute, &w); len(w.Addresses) != 0 {
		t.Errorf("wanted %v behind their end", w.Addresses)
	}
}
