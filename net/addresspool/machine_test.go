package addresspool

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func machine(t testing.TB, own string) *Machine {
	t.Helper()
	m, ok := New(Config{Own: netip.MustParsePrefix(own)})
	if !ok {
		t.Fatalf("no pool in %s", own)
	}
	return m
}

func hw(n int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
}

// query is a message of the client with that number.
func query(n int, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	q, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw(n)), dhcpv4.WithMessageType(kind)}, more...)...)
	if err != nil {
		panic(err)
	}
	return q
}

func with(code dhcpv4.OptionCode, a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(code, netip.MustParseAddr(a).AsSlice()))
}

func wishing(a string) dhcpv4.Modifier { return with(dhcpv4.OptionRequestedIPAddress, a) }
func of(server string) dhcpv4.Modifier { return with(dhcpv4.OptionServerIdentifier, server) }
func having(a string) dhcpv4.Modifier  { return dhcpv4.WithClientIP(net.ParseIP(a).To4()) }

// words prints actions for comparison.
func words(actions []Action) string {
	var out []string
	for _, a := range actions {
		switch a.Verb {
		case Send:
			y := addr(a.Message.YourIPAddr)
			out = append(out, fmt.Sprintf("%s %s to %s", a.Message.MessageType(), y, a.To))
		case Probe:
			out = append(out, "probe "+a.To.String())
		case Save:
			out = append(out, "save")
		case Note:
			out = append(out, "note "+a.Reason)
		}
	}
	return strings.Join(out, "; ")
}

func expect(t testing.TB, what string, got []Action, want string) {
	t.Helper()
	if words(got) != want {
		t.Errorf("%s: %q, want %q", what, words(got), want)
	}
}

// lease takes a client through to its lease, and returns the address.
func lease(t testing.TB, m *Machine, now *time.Duration, n int) string {
	t.Helper()
	m.Receive(*now, query(n, dhcpv4.MessageTypeDiscover))
	*now += checkTime
	offers := m.Tick(*now)
	if len(offers) != 1 {
		t.Fatalf("client %d: offers %s", n, words(offers))
	}
	a := addr(offers[0].Message.YourIPAddr).String()
	expect(t, "request", m.Receive(*now, query(n, dhcpv4.MessageTypeRequest, wishing(a), of("10.42.0.1"))),
		fmt.Sprintf("save; ACK %s to %s", a, a))
	return a
}

func TestLease(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	first := m.Receive(now, query(1, dhcpv4.MessageTypeDiscover, wishing("10.42.0.77")))
	expect(t, "discover", first, "probe 10.42.0.77")
	expect(t, "again", m.Receive(now, query(1, dhcpv4.MessageTypeDiscover)), "")
	expect(t, "too early", m.Tick(now), "")
	if got := m.Deadline(); got != now+checkTime {
		t.Errorf("deadline %v", got)
	}
	now += checkTime
	expect(t, "offer", m.Tick(now), "OFFER 10.42.0.77 to 10.42.0.77")
	ask := query(1, dhcpv4.MessageTypeRequest, wishing("10.42.0.77"), of("10.42.0.1"), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptHostName("printer")))
	got := m.Receive(now, ask)
	expect(t, "request", got, "save; ACK 10.42.0.77 to 255.255.255.255")
	r := got[1].Message
	for what, pair := range map[string][2]string{
		"mask": {net.IP(r.SubnetMask()).String(), "255.255.255.0"}, "router": {r.Router()[0].String(), "10.42.0.1"},
		"dns": {r.DNS()[0].String(), "10.42.0.1"}, "broadcast": {r.BroadcastAddress().String(), "10.42.0.255"},
		"server": {r.ServerIdentifier().String(), "10.42.0.1"}, "length": {r.IPAddressLeaseTime(0).String(), "1h0m0s"},
		"renew":  {r.IPAddressRenewalTime(0).String(), "30m0s"},
		"rebind": {r.IPAddressRebindingTime(0).String(), "52m30s"},
		"id":     {string(r.TransactionID[:]), string(ask.TransactionID[:])},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
		}
	}
	now += 30 * time.Minute
	expect(t, "renew", m.Receive(now, query(1, dhcpv4.MessageTypeRequest, having("10.42.0.77"))),
		"save; ACK 10.42.0.77 to 10.42.0.77")
	if l := m.Leases(); len(l) != 1 || l[0].Until != (now+time.Hour).Seconds() {
		t.Errorf("leases %+v", l)
	}
	now += 2 * time.Hour
	expect(t, "back after the lease", m.Receive(now, query(1, dhcpv4.MessageTypeRequest, wishing("10.42.0.77"))),
		"save; ACK 10.42.0.77 to 10.42.0.77")
	expect(t, "release", m.Receive(now, query(1, dhcpv4.MessageTypeRelease, having("10.42.0.77"))), "save")
	if len(m.Leases()) != 0 || len(m.clients) != 0 {
		t.Errorf("left: %+v %v", m.Leases(), m.clients)
	}
}

func TestWhatIsRefused(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	mine := lease(t, m, &now, 1)
	group := net.HardwareAddr{1, 0, 0, 0, 0, 1}
	ask := func(n int, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		return query(n, dhcpv4.MessageTypeRequest, more...)
	}
	for what, c := range map[string]struct {
		q    *dhcpv4.DHCPv4
		want string
	}{
		"another's":            {ask(2, wishing(mine)), "NAK 0.0.0.0 to 255.255.255.255"},
		"another network":      {ask(1, wishing("192.168.1.4")), "NAK 0.0.0.0 to 255.255.255.255"},
		"ours":                 {ask(1, wishing("10.42.0.1")), "NAK 0.0.0.0 to 255.255.255.255"},
		"broadcast":            {ask(1, wishing("10.42.0.255")), "NAK 0.0.0.0 to 255.255.255.255"},
		"network":              {ask(1, wishing("10.42.0.0")), "NAK 0.0.0.0 to 255.255.255.255"},
		"never offered":        {ask(3, wishing("10.42.0.50"), of("10.42.0.1")), "NAK 0.0.0.0 to 255.255.255.255"},
		"of another server":    {ask(1, wishing("10.42.0.50"), of("10.42.0.9")), ""},
		"nothing":              {ask(4), ""},
		"release of another's": {query(2, dhcpv4.MessageTypeRelease, having(mine)), ""},
		"decline of another's": {query(2, dhcpv4.MessageTypeDecline, wishing(mine)), ""},
		"through a relay":      {query(5, dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(net.IP{10, 0, 0, 1})), ""},
		"a group":              {query(5, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(group)), ""},
		"nobody":               {query(5, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(make([]byte, 6))), ""},
		"a long address":       {query(5, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(make([]byte, 16))), ""},
		"inform of strangers":  {query(6, dhcpv4.MessageTypeInform, having("192.168.1.1")), ""},
		"inform":               {query(6, dhcpv4.MessageTypeInform, having("10.42.0.3")), "ACK 0.0.0.0 to 10.42.0.3"},
		"an answer":            {query(7, dhcpv4.MessageTypeOffer), ""},
	} {
		expect(t, what, m.Receive(now, c.q), c.want)
	}
	if l := m.Leases(); len(l) != 1 || l[0].Address.String() != mine {
		t.Errorf("leases %+v", l)
	}
}

// TestStranger: an address that another station has is not offered.
func TestStranger(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	m.Receive(now, query(1, dhcpv4.MessageTypeDiscover, wishing("10.42.0.77")))
	taken := netip.MustParseAddr("10.42.0.77")
	if got := m.Heard(now, taken, hw(1)); got != nil {
		t.Errorf("the client itself is a stranger: %s", words(got))
	}
	got := words(m.Heard(now, taken, hw(9)))
	if !strings.Contains(got, "note another station has 10.42.0.77") || !strings.Contains(got, "; probe 10.42.0.") {
		t.Errorf("heard: %s", got)
	}
	expect(t, "the same for another client",
		m.Receive(now, query(2, dhcpv4.MessageTypeRequest, wishing("10.42.0.77"))), "NAK 0.0.0.0 to 255.255.255.255")
	now += badTime
	expect(t, "later", m.Receive(now, query(2, dhcpv4.MessageTypeDiscover, wishing("10.42.0.77"))), "probe 10.42.0.77")
}

// TestClaimsEverything: a station that claims every address keeps nobody off the network, nor us busy.
func TestClaimsEverything(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	actions := m.Receive(now, query(1, dhcpv4.MessageTypeDiscover))
	for range mostClaims {
		last := actions[len(actions)-1]
		if last.Verb != Probe {
			t.Fatalf("actions %s", words(actions))
		}
		actions = m.Heard(now, last.To, hw(9))
	}
	if last := actions[len(actions)-1]; last.Verb != Send {
		t.Errorf("no offer: %s", words(actions))
	}
}

// TestDeclines: a client that declines whatever it gets leaves most of the pool.
func TestDeclines(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	for range 400 {
		a := lease(t, m, &now, 1)
		m.Receive(now, query(1, dhcpv4.MessageTypeDecline, wishing(a)))
	}
	if n := m.count(bad); n > m.size/4 {
		t.Errorf("%d of %d addresses are kept back", n, m.size)
	}
	lease(t, m, &now, 2)
}

// TestFlood: thousands of clients cost what the pool has, take nobody's lease, and the pool comes back.
func TestFlood(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	mine := lease(t, m, &now, 1)
	for n := 2; n < 20_000; n++ {
		m.Receive(now, query(n, dhcpv4.MessageTypeDiscover))
		now += time.Millisecond
		for _, a := range m.Tick(now) {
			if n%2 == 0 {
				m.Receive(now, query(n, dhcpv4.MessageTypeRequest, wishing(addr(a.Message.YourIPAddr).String()),
					of("10.42.0.1")))
			}
		}
		m.Receive(now, query(n, dhcpv4.MessageTypeRequest, wishing(fmt.Sprintf("10.42.0.%d", n%256))))
		if len(m.entries) > m.size || len(m.clients) > m.size {
			t.Fatalf("%d entries, %d clients for %d addresses", len(m.entries), len(m.clients), m.size)
		}
	}
	expect(t, "renew in the flood", m.Receive(now, query(1, dhcpv4.MessageTypeRequest, having(mine))),
		fmt.Sprintf("save; ACK %s to %s", mine, mine))
	got := words(m.Receive(now, query(30_000, dhcpv4.MessageTypeDiscover)))
	if !strings.Contains(got, "no address is left") {
		t.Errorf("with a full pool: %s", got)
	}
	now += shortLength // most of the flood's leases were short
	m.Receive(now, query(30_000, dhcpv4.MessageTypeDiscover))
	if n := len(m.entries); n > m.size*3/4+2 {
		t.Errorf("%d of %d addresses are still taken", n, m.size)
	}
}

func TestPools(t *testing.T) {
	for own, want := range map[string]string{
		"10.42.0.1/24": "10.42.0.10-10.42.0.254 245", "192.168.7.99/24": "192.168.7.10-192.168.7.254 244",
		"10.0.0.1/30": "10.0.0.1-10.0.0.2 1", "10.0.0.1/29": "10.0.0.1-10.0.0.6 5",
		"10.0.0.1/8": "10.0.0.10-10.0.4.9 1024", "10.1.2.3/16": "10.1.0.10-10.1.4.9 1023",
	} {
		m := machine(t, own)
		if got := fmt.Sprintf("%s-%s %d", m.first, m.last, m.size); got != want {
			t.Errorf("%s: %s, want %s", own, got, want)
		}
		for n := range m.size { // each of them is found
			m.put(mustChoose(t, m, n), &entry{state: bound, client: Hardware(hw(n)), until: time.Hour})
		}
		if a, ok := m.choose(0, Hardware(hw(m.size)), netip.Addr{}); ok {
			t.Errorf("%s: %s is given twice", own, a)
		}
	}
	for _, own := range []string{"10.0.0.1/31", "10.0.0.1/32", "fe80::1/64", "10.0.0.1/7"} {
		if _, ok := New(Config{Own: netip.MustParsePrefix(own)}); ok {
			t.Errorf("%s has a pool", own)
		}
	}
}

func mustChoose(t *testing.T, m *Machine, n int) netip.Addr {
	a, ok := m.choose(0, Hardware(hw(n)), netip.Addr{})
	if !ok || !m.gives(a) {
		t.Fatalf("client %d of %d: %s", n, m.size, a)
	}
	return a
}

// TestRestart: leases outlive the server; garbage in the file costs nothing else.
func TestRestart(t *testing.T) {
	m, now := machine(t, "10.42.0.1/24"), time.Hour
	mine, other := lease(t, m, &now, 1), lease(t, m, &now, 2)
	text, err := json.Marshal(m.Leases())
	if err != nil {
		t.Fatal(err)
	}
	next := machine(t, "10.42.0.1/24")
	next.Restore(text, now)
	expect(t, "renew", next.Receive(now, query(1, dhcpv4.MessageTypeRequest, having(mine))),
		fmt.Sprintf("save; ACK %s to %s", mine, mine))
	expect(t, "another's", next.Receive(now, query(3, dhcpv4.MessageTypeRequest, wishing(other))),
		"NAK 0.0.0.0 to 255.255.255.255")
	for _, text := range []string{"", "{", "[]", "[null]",
		`[{"address":"10.42.0.1","hardware":"02:00:00:00:00:01","until":9999}]`,
		`[{"address":"10.9.0.1","hardware":"02:00:00:00:00:01","until":9999}]`,
		`[{"address":"10.42.0.20","hardware":"x","until":9999}]`,
		`[{"address":"10.42.0.20","hardware":"02:00:00:00:00:01","until":1e300}]`} {
		next := machine(t, "10.42.0.1/24")
		if next.Restore([]byte(text), now); len(next.entries) != 0 {
			t.Errorf("%s gives %+v", text, next.Leases())
		}
	}
}

// FuzzReceive: whatever comes, the tables agree with each other and stay within the pool.
func FuzzReceive(f *testing.F) {
	f.Add(query(1, dhcpv4.MessageTypeDiscover).ToBytes(), uint64(1))
	f.Add(query(1, dhcpv4.MessageTypeRequest, wishing("10.42.0.77")).ToBytes(), uint64(2))
	f.Add(query(1, dhcpv4.MessageTypeDecline, wishing("10.42.0.77"), of("10.42.0.1")).ToBytes(), uint64(3))
	f.Fuzz(func(t *testing.T, raw []byte, seed uint64) {
		q, err := dhcpv4.FromBytes(raw)
		if err != nil {
			return
		}
		m, now := machine(t, "10.42.0.1/28"), time.Hour
		random := rand.New(rand.NewPCG(seed, 0))
		for n := range 60 {
			kind := dhcpv4.MessageType(1 + random.IntN(8))
			m.Receive(now, query(random.IntN(30), kind, wishing(fmt.Sprintf("10.42.0.%d", random.IntN(20)))))
			if n%7 == 0 {
				for _, a := range m.Receive(now, q) {
					if a.Verb == Send {
						a.Message.ToBytes()
					}
				}
			}
			now += time.Duration(random.IntN(1000)) * time.Millisecond
			m.Tick(now)
			for client, a := range m.clients {
				if e := m.entries[a]; e == nil || e.client != client || !m.gives(a) {
					t.Fatalf("%s of %s: %+v", a, client, e)
				}
			}
			if len(m.entries) > m.size {
				t.Fatalf("%d entries", len(m.entries))
			}
		}
	})
}
