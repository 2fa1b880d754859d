package lease

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	otherHardware = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}
	granted       = netip.MustParseAddr("10.9.0.50")
)

// questions gives the probes and announcements of the last step.
func (b *bench) questions() string {
	var words []string
	for _, a := range b.out {
		if a.Verb == Probe || a.Verb == Announce {
			words = append(words, fmt.Sprintf("%s %s", a.Verb, a.To))
		}
	}
	return strings.Join(words, ", ")
}

// runCheck goes on until the check is over and tells its questions by their second.
func (b *bench) runCheck() string {
	var all []string
	began := b.now
	for {
		if q := b.questions(); q != "" {
			all = append(all, fmt.Sprintf("%g: %s", (b.now-began).Seconds(), q))
		}
		if _, on := b.m.Checking(); !on {
			return strings.Join(all, "; ")
		}
		b.now = max(b.now, b.m.check.next)
		b.step(Timer)
	}
}

const wholeCheck = "0: probe 10.9.0.50; 1: probe 10.9.0.50; 2: probe 10.9.0.50; 4: announce 10.9.0.50; 6: announce " +
	"10.9.0.50"

// TestCheckOfAnAddress: it begins with the request, so that the lease waits for nothing, and goes on while the address
// is used.
func TestCheckOfAnAddress(t *testing.T) {
	b := newBench(t)
	b.step(Carrier)
	b.reply(dhcpv4.MessageTypeOffer, nil)
	if got := b.questions(); got != "probe 10.9.0.50" {
		t.Errorf("with the request it asks %q", got)
	}
	out := b.out
	b.reply(dhcpv4.MessageTypeAck, nil)
	b.expect(Bound, "use 10.9.0.50/24")
	b.out = out
	if got := b.runCheck(); got != wholeCheck {
		t.Errorf("asked %s", got)
	}
	// A renewal changes nothing that would have to be asked.
	b.timer()
	b.expect(Renewing, "unicast REQUEST")
	b.reply(dhcpv4.MessageTypeAck, nil)
	if addr, on := b.m.Checking(); on {
		t.Errorf("a renewal checks %s", addr)
	}
	// The carrier comes back: perhaps to another network.
	b.step(NoCarrier)
	b.step(Carrier)
	b.expect(Rebooting, "broadcast REQUEST")
	if got := b.runCheck(); got != wholeCheck {
		t.Errorf("after the carrier's return asked %s", got)
	}
	// No answer to the request: there is nothing to be announced.
	b = newBench(t)
	b.step(Carrier)
	b.reply(dhcpv4.MessageTypeOffer, nil)
	if got := b.runCheck(); strings.Contains(got, "announce") {
		t.Errorf("announced without a lease: %s", got)
	}
	b.reply(dhcpv4.MessageTypeAck, nil)
	if got := b.runCheck(); got != wholeCheck {
		t.Errorf("after a late answer asked %s", got)
	}
}

func other(r *dhcpv4.DHCPv4) { r.YourIPAddr = net.IPv4(10, 9, 0, 51).To4() }

// TestConflict: in whatever state it is heard, the address goes, the server is told, and another one is asked for.
func TestConflict(t *testing.T) {
	for name, tt := range map[string]struct {
		into func(b *bench)
		said string
	}{
		"before the answer": {func(b *bench) { b.step(Carrier); b.reply(dhcpv4.MessageTypeOffer, nil) },
			"note, broadcast DECLINE, broadcast DISCOVER"},
		"while it is used": {func(b *bench) { b.bound(nil) }, "note, drop, broadcast DECLINE, broadcast DISCOVER"},
		"remembered": {func(b *bench) {
			b.bound(nil)
			b.step(NoCarrier)
			b.timer() // the hold ends
			b.step(Carrier)
		}, "note, broadcast DECLINE, broadcast DISCOVER"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			tt.into(b)
			if b.out = b.m.Conflict(b.now, netip.MustParseAddr("10.9.0.99"), otherHardware); len(b.out) > 0 {
				t.Errorf("a foreign address: %s", b.said())
			}
			b.out = b.m.Conflict(b.now, granted, otherHardware)
			b.expect(Selecting, tt.said)
			for _, a := range b.out {
				if a.Verb == Note && !strings.Contains(a.Reason, otherHardware.String()) {
					t.Errorf("note %q does not name the other", a.Reason)
				}
				if a.Message == nil || a.Message.MessageType() != dhcpv4.MessageTypeDecline {
					continue
				}
				m := a.Message
				if got := m.ServerIdentifier().String() + " " +
					m.RequestedIPAddress().String(); got != "10.9.0.1 10.9.0.50" || !m.ClientIPAddr.IsUnspecified() {
					t.Errorf("decline names %s, client address %s", got, m.ClientIPAddr)
				}
				if len(m.Options) != 4 { // kind, client, address, server
					t.Errorf("decline says more than it may: %s", m.Summary())
				}
			}
			if _, inUse := b.m.Lease(); inUse || b.m.Remembers() {
				t.Error("the address is kept")
			}
			b.reply(dhcpv4.MessageTypeOffer, other)
			b.expect(Requesting, "broadcast REQUEST")
			b.reply(dhcpv4.MessageTypeAck, other)
			b.expect(Bound, "use 10.9.0.51/24")
			if b.runCheck(); b.m.declines != 0 {
				t.Error("a good lease does not end the count of bad ones")
			}
		})
	}
}

// TestConflictOfAnOffer: a lease that is in use is not lost because the address that is offered instead is taken.
func TestConflictOfAnOffer(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	b.runCheck()
	b.step(NoCarrier)
	b.step(Carrier)
	for b.m.State() == Rebooting {
		b.timer()
	}
	b.reply(dhcpv4.MessageTypeOffer, other)
	b.out = b.m.Conflict(b.now, netip.MustParseAddr("10.9.0.51"), otherHardware)
	b.expect(Selecting, "note, broadcast DECLINE, broadcast DISCOVER")
	if l, inUse := b.m.Lease(); !inUse || l.Address.Addr() != granted {
		t.Errorf("lease = %s, in use: %t", l.Address, inUse)
	}
}

// TestEverythingIsClaimed: a switch that answers for others leaves the device with an address; a server that grants one
// bad address again and again is not asked without pause.
func TestEverythingIsClaimed(t *testing.T) {
	b := newBench(t)
	b.step(Carrier)
	began, declined := b.now, 0
	for range 20 {
		b.reply(dhcpv4.MessageTypeOffer, nil)
		if b.m.State() != Requesting {
			t.Fatalf("state %s", b.m.State())
		}
		if b.out = b.m.Conflict(b.now, granted, otherHardware); len(b.out) == 0 {
			break
		}
		if declined++; !strings.Contains(b.said(), "DISCOVER") {
			b.timer()
			b.expect(Selecting, "broadcast DISCOVER")
		}
	}
	b.reply(dhcpv4.MessageTypeAck, nil)
	b.expect(Bound, "use 10.9.0.50/24")
	if took := b.now - began; declined != maxDeclines || took < (maxDeclines-1)*declineWait {
		t.Errorf("%d addresses were declined in %s", declined, took)
	}
	// In another network it is checked again.
	b.step(NoCarrier)
	b.step(Carrier)
	if _, on := b.m.Checking(); !on {
		t.Error("nothing is checked any more")
	}
}

// TestServerComesLater: whenever a server appears, the lease is there within 20 s.
func TestServerComesLater(t *testing.T) {
	for seed := range uint64(200) {
		b := newBench(t)
		b.m.cfg.Random = rand.New(rand.NewPCG(1, seed)).Uint32
		b.step(Carrier)
		appears := b.now + 90*time.Second + time.Duration(seed)*137*time.Millisecond
		for b.now < appears {
			b.timer()
		}
		if wait := b.now - appears; wait > 18*time.Second {
			t.Fatalf("seed %d: a server that appears is met after %s", seed, wait)
		}
		b.reply(dhcpv4.MessageTypeOffer, nil)
		b.reply(dhcpv4.MessageTypeAck, nil)
		b.expect(Bound, "use 10.9.0.50/24")
	}
}
