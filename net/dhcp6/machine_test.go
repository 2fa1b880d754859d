package dhcp6

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

var (
	duid = []byte{0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	iaid = [4]byte{1, 2, 3, 4}
	addr = netip.MustParseAddr("2001:db8::50")
)

// bench drives a machine without a clock.
type bench struct {
	t    *testing.T
	m    *Machine
	now  time.Duration
	last Result
}

func newBench(t *testing.T) *bench {
	n := uint32(7)
	random := func() uint32 { n = n*1664525 + 1013904223; return n }
	cfg := Config{DUID: duid, IAID: iaid, Hostname: func() string { return "box" }, Random: random}
	return &bench{t: t, now: time.Minute, m: New(cfg)}
}

// sent returns the last message.
func (b *bench) sent() *dhcpv6.Message {
	b.t.Helper()
	if b.last.Send == nil {
		return &dhcpv6.Message{}
	}
	m, err := Parse(b.last.Send, duid)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bench) expect(s State, kind dhcpv6.MessageType) {
	b.t.Helper()
	if got := b.sent().MessageType; b.m.State() != s || got != kind {
		b.t.Fatalf("at %s: state %s, sent %s, want %s, %s", b.now, b.m.State(), got, s, kind)
	}
}

func (b *bench) timer() {
	b.t.Helper()
	at := b.m.Deadline()
	if at == 0 {
		b.t.Fatalf("state %s has no deadline", b.m.State())
	}
	b.now = max(b.now, at)
	b.last = b.m.Timer(b.now)
}

// give adds an address to what a server says.
func give(ia *dhcpv6.OptIANA, a net.IP, valid time.Duration) {
	ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.To16(), PreferredLifetime: valid, ValidLifetime: valid})
}

// reply answers as a server does that gives addr for an hour, unless change changes that.
func (b *bench) reply(kind dhcpv6.MessageType, change func(*dhcpv6.Message, *dhcpv6.OptIANA)) {
	b.t.Helper()
	b.now += 10 * time.Millisecond
	m := &dhcpv6.Message{MessageType: kind, TransactionID: b.m.xid}
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDUUID{UUID: [16]byte(duid[2:])}))
	m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	m.AddOption(dhcpv6.OptDNS(net.ParseIP("2001:db8::53"), net.ParseIP("ff02::1"), net.ParseIP("::1")))
	ia := &dhcpv6.OptIANA{IaId: iaid, T1: 20 * time.Minute, T2: 40 * time.Minute}
	give(ia, addr.AsSlice(), time.Hour)
	if change != nil {
		change(m, ia)
	}
	if ia.IaId != ([4]byte{}) {
		m.AddOption(ia)
	}
	parsed, err := Parse(m.ToBytes(), duid)
	if err != nil {
		b.t.Fatal(err)
	}
	b.last = b.m.Reply(b.now, parsed)
}

func (b *bench) bound() {
	b.t.Helper()
	b.last = b.m.Start(b.now, Addresses, false)
	b.reply(dhcpv6.MessageTypeAdvertise, nil)
	b.reply(dhcpv6.MessageTypeReply, nil)
	l, inUse := b.m.Lease()
	if got := fmt.Sprint(l.Addresses, l.DNS); !inUse || got != "[{2001:db8::50 1h0m0s}] [2001:db8::53]" {
		b.t.Fatalf("lease %+v", l)
	}
}

func TestFirstLease(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, Addresses, false)
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	first := b.now
	b.timer()
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	if b.now-first > 1100*time.Millisecond {
		t.Errorf("the first repetition comes after %s", b.now-first)
	}
	b.reply(dhcpv6.MessageTypeAdvertise, nil)
	b.expect(Requesting, dhcpv6.MessageTypeRequest)
	o := b.sent().Options
	if m := b.sent(); o.ServerID() == nil || o.OneIANA().Options.OneAddress() == nil || o.FQDN() == nil {
		t.Errorf("request says %s", m.Summary())
	}
	b.reply(dhcpv6.MessageTypeReply, nil)
	b.expect(Bound, 0)
	if !b.last.Changed || b.m.Listening() {
		t.Error("a bound machine listens, or did not tell of its lease")
	}
}

func TestRapidCommit(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, Addresses, false)
	b.reply(dhcpv6.MessageTypeReply, nil)
	b.expect(Soliciting, 0)
	b.reply(dhcpv6.MessageTypeReply, func(m *dhcpv6.Message, _ *dhcpv6.OptIANA) { dhcpv6.WithRapidCommit(m) })
	b.expect(Bound, 0)
}

func TestRenewal(t *testing.T) {
	b := newBench(t)
	b.bound()
	began := b.now
	b.timer()
	b.expect(Renewing, dhcpv6.MessageTypeRenew)
	if b.now != began+20*time.Minute {
		t.Errorf("renewed after %s", b.now-began)
	}
	b.reply(dhcpv6.MessageTypeReply, nil)
	b.expect(Bound, 0)
	began = b.now
	for b.m.State() != Rebinding {
		b.timer()
	}
	if b.now != began+40*time.Minute || b.sent().Options.ServerID() != nil {
		t.Errorf("rebinding after %s", b.now-began)
	}
	for b.m.State() == Rebinding {
		b.timer()
	}
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	if _, inUse := b.m.Lease(); inUse || b.now != began+time.Hour || !b.last.Changed {
		t.Errorf("the lease ended after %s", b.now-began)
	}
}

func TestInformation(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, Information, false)
	b.expect(Informing, dhcpv6.MessageTypeInformationRequest)
	b.reply(dhcpv6.MessageTypeReply, func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) { ia.IaId = [4]byte{} })
	b.expect(Informed, 0)
	if l, inUse := b.m.Lease(); !inUse || len(l.Addresses) > 0 || len(l.DNS) != 1 {
		t.Errorf("lease %+v", l)
	}
	began := b.now
	b.timer()
	if b.expect(Informing, dhcpv6.MessageTypeInformationRequest); b.now-began != refresh {
		t.Errorf("asked again after %s", b.now-began)
	}
	b.last = b.m.Start(b.now, None, false)
	b.expect(Off, 0)
}

func TestCarrierReturns(t *testing.T) {
	b := newBench(t)
	b.bound()
	b.m.Stop()
	b.now += time.Second
	b.last = b.m.Start(b.now, Addresses, false)
	b.expect(Rebinding, dhcpv6.MessageTypeRebind)
	if _, inUse := b.m.Lease(); !inUse {
		t.Error("the addresses have gone")
	}
	b.reply(dhcpv6.MessageTypeReply, nil)
	b.expect(Bound, 0)
	b.m.Stop()
	if !b.m.Forget() || b.m.Forget() {
		t.Error("forgetting has to report what it dropped once")
	}
	if b.m.Deadline() != 0 {
		t.Error("a machine that is off has a deadline")
	}
}

// TestRefusals: a server that refuses again and again is asked less and less often.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	b.bound()
	b.timer()
	refuse := func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) {
		ia.Options = dhcpv6.IdentityOptions{}
		ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: 3})
	}
	b.reply(dhcpv6.MessageTypeReply, refuse)
	if _, inUse := b.m.Lease(); inUse || !b.last.Changed || !strings.Contains(b.last.Note, "refused") {
		t.Fatalf("after the refusal: %+v", b.last)
	}
	sent := 0
	for end := b.now + time.Hour; b.now < end; {
		b.timer()
		if b.last.Send == nil {
			continue
		}
		sent++
		if b.m.State() == Soliciting {
			b.reply(dhcpv6.MessageTypeAdvertise, nil)
			b.reply(dhcpv6.MessageTypeReply, refuse)
		}
	}
	if sent > 45 {
		t.Errorf("%d solicitations in an hour of refusals", sent)
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*dhcpv6.Message, *dhcpv6.OptIANA)
		want   string
	}{
		{"as usual", nil, "[{2001:db8::50 1h0m0s}] 20m0s 40m0s"},
		{"no T1 and T2", func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) { ia.T1, ia.T2 = 0, 0 },
			"[{2001:db8::50 1h0m0s}] 30m0s 48m0s"},
		{"T1 beyond T2", func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) { ia.T1, ia.T2 = 50*time.Minute, time.Minute },
			"[{2001:db8::50 1h0m0s}] 50m0s 50m0s"},
		{"beyond the lease",
			func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) { ia.T1, ia.T2 = 500*time.Hour, 500*time.Hour },
			"[{2001:db8::50 1h0m0s}] 30m0s 48m0s"},
		{"one second", func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) {
			ia.T1, ia.T2 = time.Second, time.Second
			ia.Options = dhcpv6.IdentityOptions{}
			give(ia, addr.AsSlice(), time.Second)
		}, "[{2001:db8::50 1m0s}] 30s 48s"},
		{"useless addresses", func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) {
			for _, a := range []string{"fe80::1", "ff02::1", "::", "::1", "::ffff:10.0.0.1"} {
				give(ia, net.ParseIP(a), time.Hour)
			}
		}, "[{2001:db8::50 1h0m0s}] 20m0s 40m0s"},
		{"a hundred addresses", func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) {
			for i := range 100 {
				a := addr.As16()
				a[15] = byte(100 + i)
				give(ia, a[:], time.Hour)
			}
		}, "[{2001:db8::50 1h0m0s} {2001:db8::64 1h0m0s} {2001:db8::65 1h0m0s} {2001:db8::66 1h0m0s}] 20m0s 40m0s"},
	} {
		b := newBench(t)
		b.last = b.m.Start(b.now, Addresses, false)
		b.reply(dhcpv6.MessageTypeAdvertise, tt.change)
		b.reply(dhcpv6.MessageTypeReply, tt.change)
		l, _ := b.m.Lease()
		if got := fmt.Sprint(l.Addresses, " ", l.Renew, " ", l.Rebind); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestStrangers: what is not for us, or not an answer, changes nothing.
func TestStrangers(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, Addresses, false)
	b.reply(dhcpv6.MessageTypeAdvertise, func(m *dhcpv6.Message, _ *dhcpv6.OptIANA) { m.TransactionID[0]++ })
	b.expect(Soliciting, 0)
	b.reply(dhcpv6.MessageTypeAdvertise, func(_ *dhcpv6.Message, ia *dhcpv6.OptIANA) { ia.IaId[0]++ })
	b.expect(Soliciting, 0)
	m := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: b.m.xid}
	if _, err := Parse(m.ToBytes(), duid); err == nil {
		t.Error("a message for nobody is read")
	}
	for s := range numStates {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
}

// FuzzReply feeds messages as they come from the wire to a machine in each state that listens.
func FuzzReply(f *testing.F) {
	b := newBench(&testing.T{})
	m := b.m.message(0, dhcpv6.MessageTypeReply)
	m.AddOption(&dhcpv6.OptIANA{IaId: iaid})
	f.Add(m.ToBytes(), uint8(Renewing))
	delegate(m, time.Hour, "2001:db8:f00::/56", "2001:db8:f00::/60", "fe80::/64", "2001:db8:1::/65")
	f.Add(m.ToBytes(), uint8(Requesting))
	f.Fuzz(func(t *testing.T, p []byte, state uint8) {
		r, err := dhcpv6.MessageFromBytes(p)
		if err != nil {
			return
		}
		b := newBench(t)
		b.bound()
		b.m.prefix = state >= 128
		b.m.state, b.m.next = State(state%uint8(numStates)), b.now
		b.m.xid = r.TransactionID
		b.m.Reply(b.now, r)
		l, _ := b.m.Lease()
		for _, p := range l.Prefixes {
			masked := p.Prefix == p.Prefix.Masked()
			if p.Prefix.Bits() > maxBits || !masked || p.Preferred > p.Valid || p.Valid < minValid {
				t.Fatalf("%+v", p)
			}
		}
		if len(l.Prefixes) > maxPrefixes || len(l.Addresses) > maxAddresses || len(l.DNS) > maxServers ||
			len(l.Search) > maxDomains {
			t.Fatalf("%+v", l)
		}
		if b.m.State() != Off && b.m.Deadline() == 0 {
			t.Fatalf("state %s for ever", b.m.State())
		}
	})
}
