package lease

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Config is what a Machine knows from its beginning.
type Config struct {
	Link     string
	Hardware net.HardwareAddr // six bytes
	Hostname string           // sent if it is a valid host name
	Hold     time.Duration    // how long a configuration outlives the carrier
	Random   func() uint32    // for transaction ids and jitter
}

// Verb names what an action asks for.
type Verb string

// The verbs.
const (
	Broadcast Verb = "broadcast" // send Message to everyone
	Unicast   Verb = "unicast"   // send Message to To from the leased address
	Use       Verb = "use"       // Lease is new or renewed: configure the link with it
	Drop      Verb = "drop"      // the lease must not be used any more
	Note      Verb = "note"      // nothing to do, but Reason is worth a warning
	Ignore    Verb = "ignore"    // a message was not for us, as Reason says
	Probe     Verb = "probe"     // ask the link who has the address To
	Announce  Verb = "announce"  // tell the link that To is ours
)

// Action is one thing that netd does for a Machine.
type Action struct {
	Verb    Verb
	Message *dhcpv4.DHCPv4
	To      netip.Addr
	Lease   Lease
	Reason  string
}

// Machine is the client side of RFC 2131 for one link, as a pure step function. It belongs to one goroutine.
//
//	            carrier, no lease                 offer
//	parked ────────────────────────> selecting ──────────────> requesting
//	 ^   │                             ^  ^ ^                    │     │
//	 │   │ carrier, lease remembered   │  │ └── nak, silence ────┘     │ ack
//	 │   └──────> rebooting ──nak──────┘  │                            v
//	 │               │    (or silence)    │ nak, end of lease        bound <──┐
//	 │               └──────ack───────────┼──────────────────────>     │ T1    │ ack
//	 │                                    ├────────────────────── renewing ────┤
//	 └── no carrier, from every state     │                            │ T2    │
//	                                      └───────────────────── rebinding ────┘
//
// waiting is selecting put off because servers refuse us (NAK) again and again. Beside the states goes the check whether somebody else
// has the address; a conflict leads back to selecting from each of them.
type Machine struct {
	cfg   Config
	state State
	xid   dhcpv4.TransactionID

	began time.Duration // of this exchange
	sent  time.Duration // of the last message, where a lease's time begins
	tries int           // messages sent in this state
	naks  int           // refusals since the last lease
	next  time.Duration // when the state's timer fires; 0: never

	offer Lease // what we requested, in requesting
	held  Lease // the last lease, in use or remembered; Length 0: none
	inUse bool  // held is configured on the link

	check    check
	declines int // addresses given up since the last lease that nobody claimed
}

// New returns a machine that is parked until Carrier.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Adopt hands over a lease found in a file. InUse says that its address is on the link already, as after a restart
// of netd: then it stays there while we ask the server about it. An ended lease is not taken.
func (m *Machine) Adopt(now time.Duration, l Lease, inUse bool) bool {
	if l.Ends() <= now || l.Hardware != m.cfg.Hardware.String() || m.held.Length != 0 {
		return false
	}
	m.held, m.inUse = l, inUse
	if m.state == Parked && inUse {
		m.next = now + m.cfg.Hold
	}
	return true
}

// SetHostname changes the name that later messages carry.
func (m *Machine) SetHostname(name string) { m.cfg.Hostname = name }

// State returns where the machine stands.
func (m *Machine) State() State { return m.state }

// Listening reports whether a socket must be open now, and for which transaction. In bound and parked none is, so
// that an idle client costs nothing whatever is on the wire.
func (m *Machine) Listening() (dhcpv4.TransactionID, bool) {
	return m.xid, listens[m.state]
}

// Remembers reports whether there is a lease, in use or not, that a file should keep.
func (m *Machine) Remembers() bool { return m.held.Length != 0 }

// Lease returns the lease in use.
func (m *Machine) Lease() (Lease, bool) { return m.held, m.inUse }

// Deadline returns when Timer must come next; 0: never.
func (m *Machine) Deadline() time.Duration {
	first := m.next
	if m.inUse && (first == 0 || m.held.Ends() < first) {
		first = m.held.Ends()
	}
	if m.check.addr.IsValid() && (first == 0 || m.check.next < first) {
		first = m.check.next
	}
	return first
}

// Step takes one event and returns what to do about it, in order. Message is the reply of a Reply event.
func (m *Machine) Step(now time.Duration, e Event, message *dhcpv4.DHCPv4) []Action {
	if e == Reply {
		var action []Action
		if e, action = m.classify(message); action != nil {
			return action
		}
	}
	var actions []Action
	if e == Timer {
		actions = m.checkOn(now)
		if m.inUse && now >= m.held.Ends() {
			return append(actions, m.expire(now)...)
		}
		if m.next == 0 || now < m.next {
			return actions
		}
	}
	do := steps[m.state][e]
	if do == nil {
		return actions
	}
	return append(actions, do(m, now, message)...)
}

// classify turns a reply into the event that it is, or into a note if it is not for us. A message in a state that
// has no step for it falls through Step's table.
func (m *Machine) classify(r *dhcpv4.DHCPv4) (Event, []Action) {
	ignore := func(why string) (Event, []Action) {
		return Reply, []Action{{Verb: Ignore, Reason: why}}
	}
	if r.TransactionID != m.xid {
		return ignore("foreign transaction id")
	}
	if r.ClientHWAddr.String() != m.cfg.Hardware.String() {
		return ignore("foreign hardware address")
	}
	server, ok := address(r.Options.Get(dhcpv4.OptionServerIdentifier))
	if !ok {
		return ignore("no usable server identifier")
	}
	kind := r.MessageType()
	if m.state == Requesting && server != m.offer.Server && kind != dhcpv4.MessageTypeOffer {
		return ignore("not from the server we asked")
	}
	if m.state == Renewing && kind == dhcpv4.MessageTypeNak && server != m.held.Server {
		return ignore("refusal from a server we did not ask")
	}
	switch kind {
	case dhcpv4.MessageTypeOffer:
		return Offer, nil
	case dhcpv4.MessageTypeAck:
		return Ack, nil
	case dhcpv4.MessageTypeNak:
		return Nak, nil
	default:
		return ignore(fmt.Sprintf("unexpected %s", kind))
	}
}
