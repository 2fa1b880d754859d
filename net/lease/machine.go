package lease

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/net/clientidentity"
)

// Config is what a Machine needs at its start.
type Config struct {
	Link     string
	Hardware net.HardwareAddr // six bytes
	Hostname string           // sent if it is a valid host name
	Hold     time.Duration    // how long a configuration outlives the carrier
	Random   func() uint32    // for transaction ids and jitter
	Identity clientidentity.Identity
}

// Verb is the kind of an action.
type Verb string

// The verbs.
const (
	Broadcast Verb = "broadcast" // send Message to everyone
	Unicast   Verb = "unicast"   // send Message to To from the leased address
	Use       Verb = "use"       // Lease is new or renewed: configure the link with it
	Drop      Verb = "drop"      // the lease must not be used any more
	Note      Verb = "note"      // do nothing, but log Reason as a warning
	Ignore    Verb = "ignore"    // a message was not for us, for the Reason given
	Probe     Verb = "probe"     // ask on the link who has the address To
	Announce  Verb = "announce"  // announce on the link that To is ours
)

// Action is one thing that a Machine asks netd to do.
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
// In the state waiting, selecting is put off because servers refuse us (NAK) again and again. The check whether
// somebody else has the address runs beside the states; a conflict leads back to selecting from each of them.
type Machine struct {
	cfg   Config
	state State
	xid   dhcpv4.TransactionID

	began time.Duration // start of this exchange
	sent  time.Duration // time of the last message, from which a lease counts
	tries int           // messages sent in this state
	naks  int           // NAKs since the last lease
	next  time.Duration // when the state's timer fires; 0: never

	offer Lease // the lease that we have requested, in requesting
	held  Lease // the last lease, in use or remembered; Length 0: none
	inUse bool  // held is configured on the link
	doubt bool  // held is from an earlier boot, and no server has confirmed it

	check    check
	declines int // addresses given up since the last lease that nobody claimed
}

// New returns a machine that is parked until Carrier.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Adopt gives the machine a lease from a file. inUse means that its address is on the link already, as after a restart
// of netd: the address then stays there while we ask the server about it. A lease that has ended is not used, and Adopt
// returns false.
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

// Remember gives the machine a lease from an earlier boot, which it requests again. If Recognise follows, the lease is
// used meanwhile, for that long if no server answers.
func (m *Machine) Remember(now time.Duration, l Lease, use time.Duration) {
	l.Bound, l.Renew, l.Rebind, l.Length = now, use, use, use
	m.doubt = m.Adopt(now, l, false)
}

// Recognise says that the link is in the network of the remembered lease, as far as one can know without its server.
func (m *Machine) Recognise(now time.Duration) []Action {
	if !m.doubt || m.inUse || m.state != Rebooting && m.state != Selecting || now >= m.held.Ends() {
		return nil
	}
	m.inUse = true
	return append([]Action{{Verb: Use, Lease: m.held}}, m.ask(now, m.held.Address.Addr())...)
}

// SetHostname changes the host name in later messages.
func (m *Machine) SetHostname(name string) { m.cfg.Hostname = name }

// State returns the state of the machine.
func (m *Machine) State() State { return m.state }

// Listening reports whether a socket must be open now, and for which transaction. In bound and parked none is open, so
// that other traffic costs an idle client nothing.
func (m *Machine) Listening() (dhcpv4.TransactionID, bool) { return m.xid, listens[m.state] }

// Remembers reports whether there is a lease to keep in a file, in use or not.
func (m *Machine) Remembers() bool { return m.held.Length != 0 }

// Lease returns the lease in use.
func (m *Machine) Lease() (Lease, bool) { return m.held, m.inUse }

// Deadline returns the time of the next Timer event; 0: never.
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

// Step processes one event and returns the actions for it, in order. message is the reply of a Reply event.
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

// classify returns the event that a reply means, or a note if it is not for us. A message in a state that has no step
// for it is dropped by Step's table.
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
	if m.cfg.Identity.Refuses(server) {
		return ignore("from a server that the profile refuses")
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
