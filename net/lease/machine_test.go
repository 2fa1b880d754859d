package lease

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var ourHardware = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// bench drives one Machine on a clock of its own.
type bench struct {
	t   *testing.T
	m   *Machine
	now time.Duration
	out []Action // of the last step
}

func newBench(t *testing.T) *bench {
	serial := uint32(0)
	return &bench{t: t, now: 100 * time.Second, m: New(Config{
		Link: "eth0", Hardware: ourHardware, Hostname: "device", Hold: 5 * time.Second,
		Random: func() uint32 { serial++; return serial * 0x9e3779b1 },
	})}
}

func (b *bench) step(e Event) { b.out = b.m.Step(b.now, e, nil) }

// timer goes on to the machine's deadline.
func (b *bench) timer() {
	b.t.Helper()
	for {
		at := b.m.Deadline()
		if at == 0 {
			b.t.Fatalf("no deadline in state %s", b.m.State())
		}
		checked := b.m.check.next == at // most tests are not about the check of the address
		b.now = max(b.now, at)
		b.step(Timer)
		if b.said() != "" || !checked {
			return
		}
	}
}

// reply hands in an answer to the machine's transaction, changed as the test likes.
func (b *bench) reply(kind dhcpv4.MessageType, change func(*dhcpv4.DHCPv4)) {
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: ourHardware,
		YourIPAddr: net.IPv4(10, 9, 0, 50).To4(), Options: dhcpv4.Options{},
	}
	r.TransactionID, _ = b.m.Listening()
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 1)))
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Hour))
	r.UpdateOption(dhcpv4.OptRouter(net.IPv4(10, 9, 0, 1)))
	if change != nil {
		change(r)
	}
	b.out = b.m.Step(b.now, Reply, r)
}

// said gives the actions of the last step in short: "broadcast DISCOVER", "use 10.9.0.50/24", "drop".
func (b *bench) said() string {
	var words []string
	for _, a := range b.out {
		switch a.Verb {
		case Probe, Announce:
		case Broadcast, Unicast:
			words = append(words, fmt.Sprintf("%s %s", a.Verb, a.Message.MessageType()))
		case Use:
			words = append(words, fmt.Sprintf("use %s", a.Lease.Address))
		default:
			words = append(words, string(a.Verb))
		}
	}
	return strings.Join(words, ", ")
}

func (b *bench) expect(state State, said string) {
	b.t.Helper()
	if b.m.State() != state || b.said() != said {
		b.t.Fatalf("at %s: state %s, said %q; want %s, %q", b.now, b.m.State(), b.said(), state, said)
	}
}

// bound brings a fresh machine to bound.
func (b *bench) bound(change func(*dhcpv4.DHCPv4)) {
	b.t.Helper()
	b.step(Carrier)
	b.reply(dhcpv4.MessageTypeOffer, nil)
	b.reply(dhcpv4.MessageTypeAck, change)
	if b.m.State() != Bound {
		b.t.Fatalf("state = %s, want bound", b.m.State())
	}
}

func TestFirstLease(t *testing.T) {
	b := newBench(t)
	if b.m.Deadline() != 0 {
		t.Errorf("a parked machine has deadline %s", b.m.Deadline())
	}
	b.step(Carrier)
	b.expect(Selecting, "broadcast DISCOVER")
	discover := b.out[0].Message
	if got := discover.HostName(); got != "device" {
		t.Errorf("host name sent = %q, want device", got)
	}
	b.reply(dhcpv4.MessageTypeOffer, nil)
	b.expect(Requesting, "broadcast REQUEST")
	request := b.out[0].Message
	if request.TransactionID != discover.TransactionID {
		t.Error("the request has another transaction id than the discover")
	}
	if got := request.ServerIdentifier().String() + " " +
		request.RequestedIPAddress().String(); got != "10.9.0.1 10.9.0.50" {
		t.Errorf("request asks %s, want 10.9.0.1 for 10.9.0.50", got)
	}
	asked := b.now
	b.now += 3 * time.Second
	b.reply(dhcpv4.MessageTypeAck, nil)
	b.expect(Bound, "use 10.9.0.50/24")
	l, inUse := b.m.Lease()
	if _, on := b.m.Listening(); on {
		t.Error("a bound machine listens")
	}
	b.timer()
	if !inUse || l.Bound != asked || l.Ends() != asked+time.Hour || b.now != asked+30*time.Minute {
		t.Errorf("lease from %s to %s, renewed at %s; it must begin when we asked, at %s", l.Bound, l.Ends(), b.now,
			asked)
	}
}

// Nobody answers: the pace falls to four messages a minute and never stops, and some ask for broadcast answers.
func TestNobodyAnswers(t *testing.T) {
	b := newBench(t)
	b.step(Carrier)
	began, sent, broadcast := b.now, 1, 0
	for b.now < began+time.Hour {
		b.timer()
		b.expect(Selecting, "broadcast DISCOVER")
		sent++
		if b.out[0].Message.IsBroadcast() {
			broadcast++
		}
	}
	if sent < 220 || sent > 280 || broadcast < sent/3 {
		t.Errorf("sent %d messages in an hour, %d asking for broadcast", sent, broadcast)
	}
}

func TestRenewal(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	bound := b.now
	b.timer()
	b.expect(Renewing, "unicast REQUEST")
	if m := b.out[0].Message; !m.ClientIPAddr.Equal(net.IPv4(10, 9, 0, 50)) || m.RequestedIPAddress() != nil ||
		m.ServerIdentifier() != nil {
		t.Errorf("renewal says %s", m.Summary())
	}
	if b.now != bound+30*time.Minute {
		t.Errorf("renewed after %s, want half of an hour", b.now-bound)
	}
	b.reply(dhcpv4.MessageTypeAck, nil)
	b.expect(Bound, "use 10.9.0.50/24")
	if l, _ := b.m.Lease(); l.Bound != b.now {
		t.Errorf("renewed lease begins at %s, want %s", l.Bound, b.now)
	}
}

// The server is gone: unicast until T2, broadcast until the end, then a new search. The address stays to the end and
// not a second longer.
func TestServerGone(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	end := b.now + time.Hour
	count := map[State]int{}
	for {
		b.timer()
		if b.m.State() == Selecting {
			break
		}
		count[b.m.State()]++
	}
	b.expect(Selecting, "drop, broadcast DISCOVER")
	if b.now != end {
		t.Errorf("dropped at %s, want %s", b.now, end)
	}
	if count[Renewing] < 3 || count[Renewing] > 12 || count[Rebinding] < 2 || count[Rebinding] > 6 {
		t.Errorf("asked %d times by unicast and %d times by broadcast", count[Renewing], count[Rebinding])
	}
}

func TestAnotherServerTakesOver(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	for b.m.State() != Rebinding {
		b.timer()
	}
	b.reply(dhcpv4.MessageTypeAck, func(r *dhcpv4.DHCPv4) {
		r.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 2)))
	})
	b.expect(Bound, "use 10.9.0.50/24")
	b.timer()
	if b.out[0].To != netip.MustParseAddr("10.9.0.2") {
		t.Errorf("next renewal goes to %s, want the new server", b.out[0].To)
	}
}

func TestRefusal(t *testing.T) {
	nak := dhcpv4.MessageTypeNak
	t.Run("renewing", func(t *testing.T) {
		b := newBench(t)
		b.bound(nil)
		b.timer()
		b.reply(nak, func(r *dhcpv4.DHCPv4) { r.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 66))) })
		b.expect(Renewing, "ignore")
		b.reply(nak, nil)
		b.expect(Selecting, "drop, broadcast DISCOVER")
		if b.m.Remembers() {
			t.Error("a refused lease is remembered")
		}
	})
	t.Run("storm", func(t *testing.T) {
		b := newBench(t)
		b.step(Carrier)
		began, naks := b.now, 0
		for b.now < began+time.Hour {
			if b.m.State() == Waiting {
				b.timer()
			}
			b.reply(dhcpv4.MessageTypeOffer, nil)
			b.reply(nak, nil)
			naks++
		}
		if naks > 80 {
			t.Errorf("%d refusals in an hour, want at most one a minute in the end", naks)
		}
		b.timer()
		b.reply(dhcpv4.MessageTypeOffer, nil)
		b.reply(dhcpv4.MessageTypeAck, nil)
		b.expect(Bound, "use 10.9.0.50/24")
		b.timer()
		b.reply(nak, nil)
		b.expect(Selecting, "drop, broadcast DISCOVER") // forgiven by the lease
	})
}

func TestForeignMessages(t *testing.T) {
	for name, change := range map[string]func(*dhcpv4.DHCPv4){
		"transaction":      func(r *dhcpv4.DHCPv4) { r.TransactionID[0] ^= 1 },
		"hardware address": func(r *dhcpv4.DHCPv4) { r.ClientHWAddr = net.HardwareAddr{1, 2, 3, 4, 5, 6} },
		"server": func(r *dhcpv4.DHCPv4) {
			r.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0,
				2)))
		},
		"no server": func(r *dhcpv4.DHCPv4) { delete(r.Options, 54) },
		"no type":   func(r *dhcpv4.DHCPv4) { delete(r.Options, 53) },
		"inform":    func(r *dhcpv4.DHCPv4) { r.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeInform)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.step(Carrier)
			b.reply(dhcpv4.MessageTypeOffer, nil)
			for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
				b.reply(kind, func(r *dhcpv4.DHCPv4) { change(r) })
				if name == "inform" && kind == dhcpv4.MessageTypeNak {
					break
				}
				b.expect(Requesting, "ignore")
			}
		})
	}
	b := newBench(t)
	b.bound(nil)
	b.reply(dhcpv4.MessageTypeAck, nil)
	b.expect(Bound, "") // unsolicited
	b.reply(dhcpv4.MessageTypeNak, nil)
	b.expect(Bound, "")
}

func TestUselessOffersAreRefused(t *testing.T) {
	for _, ip := range []net.IP{net.IPv4zero, net.IPv4bcast, net.IPv4(127, 0, 0, 1), net.IPv4(224, 0, 0, 1),
		net.IPv4(10, 9, 0, 0), net.IPv4(10, 9, 0, 255)} {
		b := newBench(t)
		b.step(Carrier)
		b.reply(dhcpv4.MessageTypeOffer, func(r *dhcpv4.DHCPv4) { r.YourIPAddr = ip.To4() })
		b.expect(Selecting, "note")
		b.reply(dhcpv4.MessageTypeOffer, nil)
		b.expect(Requesting, "broadcast REQUEST")
	}
}

func TestServerDoesNotAnswerTheRequest(t *testing.T) {
	b := newBench(t)
	b.step(Carrier)
	b.reply(dhcpv4.MessageTypeOffer, nil)
	for range requestTries - 1 {
		b.timer()
		b.expect(Requesting, "broadcast REQUEST")
	}
	b.timer()
	b.expect(Selecting, "note, broadcast DISCOVER")
}

func TestCarrier(t *testing.T) {
	t.Run("short loss", func(t *testing.T) {
		b := newBench(t)
		b.bound(nil)
		b.step(NoCarrier)
		b.expect(Parked, "")
		b.now += 4 * time.Second
		b.step(Carrier)
		b.expect(Rebooting, "broadcast REQUEST")
		if m := b.out[0].Message; !m.RequestedIPAddress().Equal(net.IPv4(10, 9, 0, 50)) || m.ServerIdentifier() != nil {
			t.Errorf("reboot says %s", m.Summary())
		}
		b.reply(dhcpv4.MessageTypeAck, nil)
		b.expect(Bound, "use 10.9.0.50/24")
	})
	t.Run("long loss", func(t *testing.T) {
		b := newBench(t)
		b.bound(nil)
		b.step(NoCarrier)
		b.timer()
		b.expect(Parked, "drop")
		if b.m.Deadline() != 0 || !b.m.Remembers() {
			t.Errorf("deadline %s, remembers %t; want none and true", b.m.Deadline(), b.m.Remembers())
		}
		b.now += 10 * time.Minute
		b.step(Carrier)
		b.expect(Rebooting, "broadcast REQUEST")
	})
	t.Run("lease ends meanwhile", func(t *testing.T) {
		b := newBench(t)
		b.bound(nil)
		b.step(NoCarrier)
		b.timer()
		b.now += 2 * time.Hour
		b.step(Carrier)
		b.expect(Selecting, "broadcast DISCOVER")
	})
	t.Run("in every state", func(t *testing.T) {
		for s := range numStates {
			if s != Parked && steps[s][NoCarrier] == nil {
				t.Errorf("state %s does not hear of a lost carrier", s)
			}
		}
	})
}

// Nobody knows the remembered lease: it stays in use while a new one is sought, and ends when its time is over.
func TestRebootInSilence(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	end := b.now + time.Hour
	b.step(NoCarrier)
	b.step(Carrier)
	for b.m.State() == Rebooting {
		b.timer()
	}
	b.expect(Selecting, "broadcast DISCOVER")
	if _, inUse := b.m.Lease(); !inUse {
		t.Fatal("silence dropped the lease")
	}
	for b.now < end {
		b.timer()
	}
	if b.expect(Selecting, "drop, broadcast DISCOVER"); b.now != end {
		t.Errorf("dropped at %s, want %s", b.now, end)
	}
}

func TestAdopt(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	old, _ := b.m.Lease()

	b = newBench(t)
	if !b.m.Adopt(b.now, old, true) {
		t.Fatal("a good lease was not taken over")
	}
	if l, inUse := b.m.Lease(); !inUse || l.Address != old.Address {
		t.Errorf("lease in use = %s, %t", l.Address, inUse)
	}
	b.step(Carrier)
	b.expect(Rebooting, "broadcast REQUEST")

	b = newBench(t)
	if b.m.Adopt(old.Ends(), old, true) {
		t.Error("an ended lease was taken over")
	}
	foreign := old
	foreign.Hardware = "01:02:03:04:05:06"
	if b.m.Adopt(b.now, foreign, true) {
		t.Error("the lease of another card was taken over")
	}
}

// A lease from an earlier boot is requested again. It is used at once if the network is recognised, for a bounded time;
// in another network the client does not wait for a server that does not know it.
func TestRemember(t *testing.T) {
	b := newBench(t)
	b.bound(nil)
	old, _ := b.m.Lease()
	fresh := func(t *testing.T) *bench {
		b := newBench(t)
		b.m.Remember(b.now, old, time.Minute)
		b.step(Carrier)
		b.expect(Rebooting, "broadcast REQUEST")
		return b
	}
	t.Run("confirmed", func(t *testing.T) {
		b := fresh(t)
		b.out = b.m.Recognise(b.now)
		b.expect(Rebooting, "use 10.9.0.50/24")
		b.out = b.m.Recognise(b.now)
		b.expect(Rebooting, "")
		b.reply(dhcpv4.MessageTypeAck, nil)
		b.expect(Bound, "use 10.9.0.50/24")
		if l, _ := b.m.Lease(); l.Length != time.Hour {
			t.Errorf("length %s, want that of the server", l.Length)
		}
	})
	t.Run("in silence", func(t *testing.T) {
		b := fresh(t)
		end := b.now + time.Minute
		b.out = b.m.Recognise(b.now)
		for b.now < end {
			b.timer()
		}
		if b.expect(Selecting, "drop, broadcast DISCOVER"); b.now != end {
			t.Errorf("dropped at %s, want %s", b.now, end)
		}
	})
	t.Run("refused", func(t *testing.T) {
		b := fresh(t)
		b.out = b.m.Recognise(b.now)
		b.reply(dhcpv4.MessageTypeNak, nil)
		b.expect(Selecting, "drop, broadcast DISCOVER")
	})
	t.Run("another network", func(t *testing.T) {
		b := fresh(t)
		began := b.now
		b.timer()
		b.expect(Selecting, "broadcast DISCOVER")
		if b.now-began > 300*time.Millisecond {
			t.Errorf("looks for a server after %s", b.now-began)
		}
		if _, inUse := b.m.Lease(); inUse {
			t.Error("the lease is in use")
		}
	})
	t.Run("somebody else has it", func(t *testing.T) {
		b := fresh(t)
		b.out = b.m.Recognise(b.now)
		b.out = b.m.Conflict(b.now, old.Address.Addr(), []byte{2, 0, 0, 0, 0, 1})
		b.expect(Selecting, "note, drop, broadcast DECLINE, broadcast DISCOVER")
	})
}

// A lease without end must not overflow any timer.
func TestEndlessLease(t *testing.T) {
	b := newBench(t)
	b.bound(func(r *dhcpv4.DHCPv4) { r.Options[51] = []byte{255, 255, 255, 255} })
	if l, _ := b.m.Lease(); l.Ends() < b.now+100*365*24*time.Hour || b.m.next < b.now+50*365*24*time.Hour {
		t.Errorf("lease ends %s, renewed at %s", l.Ends(), b.m.next)
	}
}

// The drawing above Machine names every state, and the table leads nowhere else.
func TestEveryStateHasAName(t *testing.T) {
	for s := range numStates {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
}

// Whatever comes in whatever order, the machine is never without a next step while it has a carrier, and never sends
// more than one message at once, but for the DECLINE before a DISCOVER.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 4, 5, 2, 6, 2, 2, 1, 0, 5})
	f.Add([]byte{0, 4, 6, 4, 6, 4, 6, 2, 4, 5, 2, 2, 2, 2})
	f.Add([]byte{0, 4, 8, 4, 5, 8, 2, 4, 8, 4, 5, 2, 2, 2, 2, 2, 1, 8, 0})
	f.Fuzz(func(t *testing.T, events []byte) {
		b := newBench(t)
		for _, e := range events {
			switch e % 9 {
			case 8:
				addr, _ := b.m.Checking()
				b.out = b.m.Conflict(b.now, addr, otherHardware)
			case 0:
				b.step(Carrier)
			case 1:
				b.step(NoCarrier)
			case 2, 3:
				if at := b.m.Deadline(); at != 0 {
					b.now = max(at, b.now)
				}
				b.step(Timer)
			case 4:
				b.reply(dhcpv4.MessageTypeOffer, nil)
			case 5:
				b.reply(dhcpv4.MessageTypeAck, nil)
			case 6:
				b.reply(dhcpv4.MessageTypeNak, nil)
			case 7:
				b.reply(dhcpv4.MessageTypeAck, func(r *dhcpv4.DHCPv4) { r.Options[51] = []byte{0, 0, 0, e} })
			}
			sent := 0
			for _, a := range b.out {
				if a.Message != nil && a.Message.MessageType() != dhcpv4.MessageTypeDecline {
					sent++
				}
				if (a.Verb == Probe || a.Verb == Announce) && !a.To.IsValid() {
					t.Fatalf("asks for no address: %s", b.said())
				}
			}
			if sent > 1 {
				t.Fatalf("sent %d messages in one step: %s", sent, b.said())
			}
			if b.m.State() != Parked && b.m.Deadline() <= b.now {
				t.Fatalf("state %s has deadline %s at %s", b.m.State(), b.m.Deadline(), b.now)
			}
		}
	})
}
