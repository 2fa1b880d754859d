package lease

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// State is the state of a Machine; the zero value is parked.
type State uint8

// The states. Parked is INIT of RFC 2131 without a carrier; with a carrier, the machine leaves INIT at once.
const (
	Parked State = iota
	Waiting
	Selecting
	Requesting
	Rebooting
	Bound
	Renewing
	Rebinding
	numStates
)

var stateNames = [numStates]string{
	Parked: "parked", Waiting: "waiting", Selecting: "selecting", Requesting: "requesting",
	Rebooting: "rebooting", Bound: "bound", Renewing: "renewing", Rebinding: "rebinding",
}

// String returns the name of the state for the log.
func (s State) String() string { return stateNames[s] }

var listens = [numStates]bool{
	Selecting: true, Requesting: true, Rebooting: true, Renewing: true, Rebinding: true,
}

// Event is what can happen to a Machine.
type Event uint8

// The events. Step turns a Reply into Offer, Ack or Nak; only Step creates these.
const (
	Carrier   Event = iota // the link has a carrier now
	NoCarrier              // the link has lost its carrier
	Timer                  // the time of Deadline has come
	Reply                  // a parsed message from some server
	Offer
	Ack
	Nak
	numEvents
)

type (
	m        = Machine
	stepFunc func(m *Machine, now time.Duration, r *dhcpv4.DHCPv4) []Action
)

// steps is the drawing at Machine as a table; nil means that the event changes nothing in that state.
var steps = [numStates][numEvents]stepFunc{
	Parked:     {Carrier: (*m).awake, Timer: (*m).letGo},
	Waiting:    {NoCarrier: (*m).park, Timer: (*m).discover},
	Selecting:  {NoCarrier: (*m).park, Timer: (*m).discoverAgain, Offer: (*m).choose},
	Requesting: {NoCarrier: (*m).park, Timer: (*m).requestAgain, Ack: (*m).bind, Nak: (*m).refused},
	Rebooting:  {NoCarrier: (*m).park, Timer: (*m).rebootAgain, Ack: (*m).bind, Nak: (*m).refused},
	Bound:      {NoCarrier: (*m).park, Timer: (*m).renew},
	Renewing:   {NoCarrier: (*m).park, Timer: (*m).renewAgain, Ack: (*m).bind, Nak: (*m).refused},
	Rebinding:  {NoCarrier: (*m).park, Timer: (*m).rebindAgain, Ack: (*m).bind, Nak: (*m).refused},
}

// The timing of the client. RFC 2131 proposes 4 s before the first repetition. A boot that lost one packet, because the
// other end of the cable was not ready, should not wait that long.
const (
	firstRetry     = 250 * time.Millisecond
	lastRetry      = 64 * time.Second
	lastDiscover   = 15 * time.Second // RFC 2131 allows lastRetry; this finds a server that starts late
	requestTries   = 5
	rebootTries    = 4
	renewRetry     = 60 * time.Second // RFC 2131 4.4.5; shorter for leases of a few minutes
	broadcastAfter = 4                // DISCOVERs before we ask for broadcast replies: some bridges drop unicast ones
	maxNakShift    = 8
)

// backoff returns firstRetry doubled n times, at most limit, plus or minus an eighth.
func (m *Machine) backoff(n int, limit time.Duration) time.Duration {
	d := min(firstRetry<<min(n, 10), limit)
	return d - d/8 + time.Duration(m.cfg.Random())%(d/4)
}

// begin starts a new exchange in state s.
func (m *Machine) begin(now time.Duration, s State) {
	m.state, m.tries, m.began = s, 0, now
	if s == Selecting {
		m.check = check{} // it was for an address that is no longer requested
	}
	binary.BigEndian.PutUint32(m.xid[:], m.cfg.Random())
}

// send records that a message is sent, and sets the timer for the case that no answer comes.
func (m *Machine) send(now, retry time.Duration, a Action) []Action {
	m.tries++
	m.sent, m.next = now, now+retry
	return []Action{a}
}

// awake leaves parked. It requests the remembered lease again (INIT-REBOOT), or sends the first DISCOVER at once: the
// random delay of up to ten seconds in RFC 2131 is for many clients that start together after a power cut, and would
// delay a boot.
func (m *Machine) awake(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	if m.held.Length != 0 && now < m.held.Ends() {
		m.begin(now, Rebooting)
		return append(m.rebootAgain(now, nil), m.ask(now, m.held.Address.Addr())...)
	}
	return m.discover(now, nil)
}

// park handles a lost carrier: the configuration stays for a while, because most carriers return within seconds.
func (m *Machine) park(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	m.state, m.next, m.naks, m.declines, m.check = Parked, 0, 0, 0, check{}
	if m.inUse {
		m.next = now + m.cfg.Hold
	}
	return nil
}

// letGo ends the hold: the lease is remembered but no longer used.
func (m *Machine) letGo(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	m.next = 0
	return m.drop("carrier lost")
}

func (m *Machine) discover(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	m.begin(now, Selecting)
	return m.discoverAgain(now, nil)
}

func (m *Machine) discoverAgain(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	msg := m.message(now, dhcpv4.MessageTypeDiscover)
	if m.tries >= broadcastAfter && m.tries%2 == 1 {
		msg.SetBroadcast()
	}
	if m.held.Length != 0 {
		msg.UpdateOption(dhcpv4.OptRequestedIPAddress(option(m.held.Address.Addr())))
	}
	return m.send(now, m.backoff(m.tries, lastDiscover), Action{Verb: Broadcast, Message: msg})
}

// choose accepts the first usable offer; waiting for a better one would delay every boot.
func (m *Machine) choose(now time.Duration, r *dhcpv4.DHCPv4) []Action {
	offer, _, err := Grant(r)
	if err != nil {
		return []Action{{Verb: Note, Reason: "offer refused: " + err.Error()}}
	}
	m.offer = offer
	m.state, m.tries = Requesting, 0
	return append(m.requestAgain(now, nil), m.ask(now, offer.Address.Addr())...)
}

func (m *Machine) requestAgain(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	if m.tries == requestTries {
		return append([]Action{{Verb: Note, Reason: "server does not answer the request"}}, m.discover(now, nil)...)
	}
	msg := m.message(now, dhcpv4.MessageTypeRequest)
	msg.UpdateOption(dhcpv4.OptRequestedIPAddress(option(m.offer.Address.Addr())))
	msg.UpdateOption(dhcpv4.OptServerIdentifier(option(m.offer.Server)))
	return m.send(now, m.backoff(m.tries, lastRetry), Action{Verb: Broadcast, Message: msg})
}

// rebootAgain asks every server whether the remembered lease is still ours. Silence does not mean yes: on another
// network most servers do not answer. If the lease was in use it stays in use while we look for a new one.
func (m *Machine) rebootAgain(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	if m.tries == rebootTries || m.tries > 0 && m.doubt && !m.inUse {
		return m.discover(now, nil) // most likely another network: the lease is remembered from an earlier boot
	}
	msg := m.message(now, dhcpv4.MessageTypeRequest)
	msg.UpdateOption(dhcpv4.OptRequestedIPAddress(option(m.held.Address.Addr())))
	return m.send(now, m.backoff(m.tries, lastRetry), Action{Verb: Broadcast, Message: msg})
}

func (m *Machine) renew(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	m.begin(now, Renewing)
	return m.renewAgain(now, nil)
}

func (m *Machine) renewAgain(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	until := m.held.Bound + m.held.Rebind
	if now >= until {
		m.begin(now, Rebinding)
		return m.rebindAgain(now, nil)
	}
	return m.send(now, m.renewWait(now, until), Action{Verb: Unicast, Message: m.extend(now), To: m.held.Server})
}

func (m *Machine) rebindAgain(now time.Duration, _ *dhcpv4.DHCPv4) []Action {
	return m.send(now, m.renewWait(now, m.held.Ends()), Action{Verb: Broadcast, Message: m.extend(now)})
}

// extend builds the REQUEST of renewing and rebinding, which contains our address and no server.
func (m *Machine) extend(now time.Duration) *dhcpv4.DHCPv4 {
	msg := m.message(now, dhcpv4.MessageTypeRequest)
	msg.ClientIPAddr = option(m.held.Address.Addr())
	return msg
}

// renewWait is half of the time that is left, but at least a minute or a sixteenth of a short lease, and never more
// than the rest.
func (m *Machine) renewWait(now, until time.Duration) time.Duration {
	floor := max(min(renewRetry, m.held.Length/16), time.Second)
	return max(min(max((until-now)/2, floor), until-now), time.Millisecond)
}

// bind accepts an ACK. The lease counts from our request, not from the server's answer.
func (m *Machine) bind(now time.Duration, r *dhcpv4.DHCPv4) []Action {
	l, notes, err := Grant(r)
	if err != nil {
		return append([]Action{{Verb: Note, Reason: "ack refused: " + err.Error()}}, m.refused(now, r)...)
	}
	var actions []Action
	for _, n := range notes {
		actions = append(actions, Action{Verb: Note, Reason: n})
	}
	had := m.inUse && l.Address.Addr() == m.held.Address.Addr()
	if m.inUse && l.Address != m.held.Address {
		actions = append(actions, Action{Verb: Note, Reason: fmt.Sprintf("address was %s", m.held.Address)})
	}
	l.Link, l.Hardware, l.Bound = m.cfg.Link, m.cfg.Hardware.String(), m.sent
	m.held, m.inUse, m.doubt, m.naks = l, true, false, 0
	m.state, m.next = Bound, l.Bound+l.Renew
	actions = append(actions, Action{Verb: Use, Lease: l})
	if had {
		return actions
	}
	return append(actions, m.ask(now, l.Address.Addr())...)
}

// refused handles a NAK: the lease ends at once, and the client begins again. The first time it does so without delay,
// because the device may have come to another network; a server that keeps refusing is asked less and less often.
func (m *Machine) refused(now time.Duration, r *dhcpv4.DHCPv4) []Action {
	actions := m.drop("refused by the server")
	m.held, m.check, m.naks = Lease{}, check{}, m.naks+1
	if m.naks == 1 {
		return append(actions, m.discover(now, nil)...)
	}
	m.state, m.next = Waiting, now+m.backoff(min(m.naks-2, maxNakShift), lastRetry)
	return append(actions, Action{Verb: Note, Reason: fmt.Sprintf("refused %d times, next in %s", m.naks, m.next-now)})
}

// expire ends a lease whose time is over. In parked no server can be asked.
func (m *Machine) expire(now time.Duration) []Action {
	actions := m.drop("lease ended")
	m.held = Lease{}
	if m.state == Parked {
		m.next = 0
		return actions
	}
	return append(actions, m.discover(now, nil)...)
}

func (m *Machine) drop(why string) []Action {
	if !m.inUse {
		return nil
	}
	m.inUse = false
	return []Action{{Verb: Drop, Lease: m.held, Reason: why}}
}
