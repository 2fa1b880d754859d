package dhcp6

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// delegate adds a prefix to what a server says: its lifetimes are preferred, and twice that.
func delegate(m *dhcpv6.Message, preferred time.Duration, prefixes ...string) *dhcpv6.OptIAPD {
	ia := m.Options.OneIAPD()
	if ia == nil {
		ia = &dhcpv6.OptIAPD{IaId: iaid, T1: 10 * time.Minute, T2: 20 * time.Minute}
		m.AddOption(ia)
	}
	for _, text := range prefixes {
		_, n, err := net.ParseCIDR(text)
		if err != nil {
			panic(err)
		}
		ia.Options.Add(&dhcpv6.OptIAPrefix{PreferredLifetime: preferred, ValidLifetime: 2 * preferred, Prefix: n})
	}
	return ia
}

// prefixes answers with these prefixes and nothing else.
func prefixes(list ...string) func(*dhcpv6.Message, *dhcpv6.OptIANA) {
	return func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
		ia.IaId = [4]byte{}
		delegate(m, time.Hour, list...)
	}
}

// both answers with the usual address and these prefixes.
func both(list ...string) func(*dhcpv6.Message, *dhcpv6.OptIANA) {
	return func(m *dhcpv6.Message, _ *dhcpv6.OptIANA) { delegate(m, time.Hour, list...) }
}

// refused answers that there is no prefix, for one of the reasons of RFC 8415.
func refused(status uint16, addresses bool) func(*dhcpv6.Message, *dhcpv6.OptIANA) {
	return func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
		if !addresses {
			ia.IaId = [4]byte{}
		}
		pd := &dhcpv6.OptIAPD{IaId: iaid}
		pd.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusCode(status)})
		m.AddOption(pd)
	}
}

func (b *bench) wantPrefixes(want string) {
	b.t.Helper()
	l, _ := b.m.Lease()
	if got := fmt.Sprint(l.Prefixes); got != want {
		b.t.Fatalf("at %s: prefixes %s, want %s", b.now, got, want)
	}
}

const oneHour = "[{2001:db8:f00::/56 1h0m0s 2h0m0s}]"

// TestPrefix: a prefix alone, from the first question to its end.
func TestPrefix(t *testing.T) {
	b := newBench(t)
	b.m.Wish(netip.MustParsePrefix("::/60"))
	b.last = b.m.Start(b.now, None, true)
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	o := b.sent().Options
	if o.OneIANA() != nil || o.FQDN() != nil || len(o.IAPD()) != 1 {
		t.Fatalf("solicit says %s", b.sent().Summary())
	}
	if p := o.OneIAPD().Options.Prefixes(); len(p) != 1 || p[0].Prefix.String() != "::/60" {
		t.Errorf("it wishes %v", p)
	}
	b.reply(dhcpv6.MessageTypeAdvertise, prefixes("2001:db8:f00::/56"))
	b.expect(Requesting, dhcpv6.MessageTypeRequest)
	if p := b.sent().Options.OneIAPD().Options.Prefixes(); len(p) != 1 || p[0].Prefix.String() != "2001:db8:f00::/56" {
		t.Errorf("it asks for %v", p)
	}
	b.reply(dhcpv6.MessageTypeReply, prefixes("2001:db8:f00::/56"))
	b.expect(Bound, 0)
	b.wantPrefixes(oneHour)
	began := b.now
	b.timer()
	b.expect(Renewing, dhcpv6.MessageTypeRenew)
	if b.now != began+10*time.Minute {
		t.Errorf("renewed after %s", b.now-began)
	}
	b.reply(dhcpv6.MessageTypeReply, prefixes("2001:db8:f00::/56"))
	began = b.now
	for b.m.State() != Rebinding { // the server has gone
		b.timer()
	}
	if b.now != began+20*time.Minute || b.sent().Options.ServerID() != nil || b.sent().Options.OneIANA() != nil {
		t.Errorf("rebinding after %s: %s", b.now-began, b.sent().Summary())
	}
	for b.m.State() == Rebinding {
		b.timer()
	}
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	if b.wantPrefixes("[]"); b.now != began+2*time.Hour || !b.last.Changed {
		t.Errorf("the prefix ended after %s", b.now-began)
	}
}

// TestPrefixChanges: the server gives another prefix, a smaller one, two, or one that is about to go.
func TestPrefixChanges(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, None, true)
	b.reply(dhcpv6.MessageTypeAdvertise, prefixes("2001:db8:f00::/56"))
	b.reply(dhcpv6.MessageTypeReply, prefixes("2001:db8:f00::/56"))
	b.timer()
	b.reply(dhcpv6.MessageTypeReply, func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) { // as RFC 8415 has it
		ia.IaId = [4]byte{}
		delegate(m, 0, "2001:db8:f00::/56")
		delegate(m, time.Hour, "2001:db8:aa00::/60")
	})
	b.wantPrefixes("[{2001:db8:aa00::/60 1h0m0s 2h0m0s}]")
	b.timer()
	b.reply(dhcpv6.MessageTypeReply, func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
		ia.IaId = [4]byte{}
		old := delegate(m, time.Hour, "2001:db8:aa00::/60", "2001:db8:bb00::/60")
		old.Options.Prefixes()[0].PreferredLifetime = 0
		old.Options.Prefixes()[0].ValidLifetime = 5 * time.Minute
	})
	b.wantPrefixes("[{2001:db8:aa00::/60 0s 5m0s} {2001:db8:bb00::/60 1h0m0s 2h0m0s}]")
	began := b.now
	held, _ := b.m.Lease()
	for len(held.Prefixes) == 2 {
		b.timer()
		held, _ = b.m.Lease()
	}
	b.wantPrefixes("[{2001:db8:bb00::/60 1h0m0s 2h0m0s}]")
	if b.now != began+5*time.Minute || !b.last.Changed {
		t.Errorf("the old prefix ended after %s", b.now-began)
	}
}

// TestPrefixBesideAddresses: one exchange asks for both. A server that has no prefix still gives its addresses, and is
// asked for the prefix less and less often.
func TestPrefixBesideAddresses(t *testing.T) {
	b := newBench(t)
	b.last = b.m.Start(b.now, Addresses, true)
	if o := b.sent().Options; o.OneIANA() == nil || o.OneIAPD() == nil || o.FQDN() == nil {
		t.Fatalf("solicit says %s", b.sent().Summary())
	}
	b.reply(dhcpv6.MessageTypeAdvertise, refused(6, true))
	b.reply(dhcpv6.MessageTypeReply, refused(6, true))
	b.expect(Bound, 0)
	l, inUse := b.m.Lease()
	if !inUse || len(l.Addresses) != 1 || !strings.Contains(b.last.Note, "part") {
		t.Fatalf("lease %+v, %q", l, b.last.Note)
	}
	asked := 0
	for end := b.now + 6*time.Hour; b.now < end; {
		b.timer()
		if b.last.Send != nil && b.m.State() == Soliciting {
			asked++
			b.reply(dhcpv6.MessageTypeAdvertise, refused(6, true))
			b.reply(dhcpv6.MessageTypeReply, refused(6, true))
		}
		if _, inUse := b.m.Lease(); !inUse {
			t.Fatalf("at %s the addresses are gone", b.now)
		}
	}
	if asked < 10 || asked > 40 {
		t.Errorf("asked %d times in 6 hours", asked)
	}
	b.timer()
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	b.reply(dhcpv6.MessageTypeAdvertise, both("2001:db8:f00::/56"))
	b.reply(dhcpv6.MessageTypeReply, both("2001:db8:f00::/56"))
	b.wantPrefixes(oneHour)
	b.timer()
	b.expect(Renewing, dhcpv6.MessageTypeRenew)
	if o := b.sent().Options; o.OneIANA() == nil || o.OneIAPD() == nil {
		t.Errorf("renew says %s", b.sent().Summary())
	}
	// The server forgets the prefix only: the address stays in use, and the prefix is asked for again at once.
	b.reply(dhcpv6.MessageTypeReply, refused(3, true))
	b.wantPrefixes("[]")
	if l, inUse := b.m.Lease(); !inUse || len(l.Addresses) != 1 {
		t.Fatalf("lease %+v", l)
	}
	began := b.now
	b.timer()
	if b.expect(Soliciting, dhcpv6.MessageTypeSolicit); b.now-began > 10*time.Second {
		t.Errorf("asked again after %s", b.now-began)
	}
}

// TestNoPrefix: a server without prefixes is asked as rarely as it wants.
func TestNoPrefix(t *testing.T) {
	for silence, most := range map[time.Duration]int{0: 40, 24 * time.Hour: 20} {
		b := newBench(t)
		b.last = b.m.Start(b.now, None, true)
		asked := 0
		for end := b.now + 24*time.Hour; b.now < end; {
			if b.last.Send != nil {
				asked++
				b.reply(dhcpv6.MessageTypeAdvertise, func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
					refused(6, false)(m, ia)
					if silence != 0 {
						day := []byte{0, 1, 0x51, 0x80}
						m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionSolMaxRT, OptionData: day})
					}
				})
				b.expect(Soliciting, 0)
			}
			b.timer()
		}
		if asked < 10 || asked > most {
			t.Errorf("asked %d times in a day, want at most %d", asked, most)
		}
	}
}

// TestPrefixWantedLater: somebody wants a prefix while the machine has addresses, and later no more.
func TestPrefixWantedLater(t *testing.T) {
	b := newBench(t)
	b.bound()
	b.last = b.m.Start(b.now, Addresses, true)
	b.expect(Soliciting, dhcpv6.MessageTypeSolicit)
	if l, inUse := b.m.Lease(); !inUse || len(l.Addresses) != 1 {
		t.Fatalf("lease %+v", l)
	}
	b.reply(dhcpv6.MessageTypeAdvertise, both("2001:db8:f00::/56"))
	b.reply(dhcpv6.MessageTypeReply, both("2001:db8:f00::/56"))
	b.wantPrefixes(oneHour)
	b.last = b.m.Start(b.now, Addresses, false)
	if b.wantPrefixes("[]"); !b.last.Changed || b.sent().Options.OneIAPD() != nil {
		t.Errorf("not dropped, or still asked for: %s", b.sent().Summary())
	}
	b.reply(dhcpv6.MessageTypeReply, both("2001:db8:f00::/56")) // what was not asked for
	b.wantPrefixes("[]")

	b = newBench(t)
	b.last = b.m.Start(b.now, None, true)
	b.reply(dhcpv6.MessageTypeReply, func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
		prefixes("2001:db8:f00::/56")(m, ia)
		dhcpv6.WithRapidCommit(m)
	})
	b.wantPrefixes(oneHour)
	b.last = b.m.Start(b.now, None, false)
	b.expect(Off, 0)
	if _, inUse := b.m.Lease(); inUse || b.m.Deadline() != 0 {
		t.Error("a machine that nobody wants anything of has a lease")
	}
}

// TestPrefixAdopted: the next process asks for the same prefix again, and uses it meanwhile.
func TestPrefixAdopted(t *testing.T) {
	b := newBench(t)
	p := netip.MustParsePrefix("2001:db8:f00::/56")
	b.m.Adopt(Lease{Bound: b.now, Prefixes: []Prefix{{p, time.Hour, 2 * time.Hour}}})
	b.last = b.m.Start(b.now, None, true)
	b.expect(Rebinding, dhcpv6.MessageTypeRebind)
	b.wantPrefixes(oneHour)
	if l := b.sent().Options.OneIAPD().Options.Prefixes(); len(l) != 1 || l[0].Prefix.String() != p.String() {
		t.Errorf("rebind asks for %v", l)
	}
}

// TestUselessPrefixes: only prefixes of which guests can make addresses count, and not too many.
func TestUselessPrefixes(t *testing.T) {
	for name, tt := range map[string]struct{ give, want string }{
		"too small":   {"2001:db8::/65 2001:db8:1::/128", "[]"},
		"far too big": {"2000::/3 ::/8", "[]"},
		"none":        {"fe80::/56 ff02::/56 ::/56 ::ffff:10.0.0.0/120", "[]"},
		"private":     {"fd12::/48", "[{fd12::/48 1h0m0s 2h0m0s}]"},
		"one network": {"2001:db8:1:2::/64", "[{2001:db8:1:2::/64 1h0m0s 2h0m0s}]"},
		"overlapping": {"2001:db8::/56 2001:db8::/60 2001:db8::/48", "[{2001:db8::/56 1h0m0s 2h0m0s}]"},
		"not masked":  {"2001:db8:0:1::1/48", "[{2001:db8::/48 1h0m0s 2h0m0s}]"},
		"many": {"2001:db8:1::/48 2001:db8:2::/48 2001:db8:3::/48 2001:db8:4::/48 2001:db8:5::/48",
			"[{2001:db8:1::/48 1h0m0s 2h0m0s} {2001:db8:2::/48 1h0m0s 2h0m0s} {2001:db8:3::/48 1h0m0s 2h0m0s} " +
				"{2001:db8:4::/48 1h0m0s 2h0m0s}]"},
	} {
		b := newBench(t)
		b.last = b.m.Start(b.now, None, true)
		b.reply(dhcpv6.MessageTypeReply, func(m *dhcpv6.Message, ia *dhcpv6.OptIANA) {
			prefixes(strings.Fields(tt.give)...)(m, ia)
			if name == "not masked" {
				m.Options.OneIAPD().Options.Prefixes()[0].Prefix.IP[15] = 1
			}
			dhcpv6.WithRapidCommit(m)
		})
		l, _ := b.m.Lease()
		if got := fmt.Sprint(l.Prefixes); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
