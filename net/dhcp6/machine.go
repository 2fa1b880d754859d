package dhcp6

import (
	"cmp"
	"errors"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Mode is what the routers of a link say about DHCPv6.
type Mode uint8

// The modes.
const (
	None        Mode = iota // there is no server
	Information             // O: a server has settings
	Addresses               // M: a server has addresses and settings
)

// State is the state of a Machine.
type State uint8

// The states.
const (
	Off State = iota
	Soliciting
	Requesting
	Bound
	Renewing
	Rebinding
	Informing
	Informed
	numStates
)

var stateNames = [numStates]string{
	Off: "off", Soliciting: "soliciting", Requesting: "requesting", Bound: "bound", Renewing: "renewing",
	Rebinding: "rebinding", Informing: "informing", Informed: "informed",
}

// String returns the name of the state for the log.
func (s State) String() string { return stateNames[s] }

// retries are the retransmissions of RFC 8415, section 7.6: first, longest, and how many (0: for ever). The longest of
// SOLICIT and INFORMATION-REQUEST is below the 3600 s of the RFC, so that a server which comes later is found soon.
var retries = [numStates]struct {
	first, longest time.Duration
	count          int
}{
	Soliciting: {time.Second, 2 * time.Minute, 0},
	Requesting: {time.Second, 30 * time.Second, 10},
	Renewing:   {10 * time.Second, 10 * time.Minute, 0},
	Rebinding:  {10 * time.Second, 10 * time.Minute, 0},
	Informing:  {time.Second, 2 * time.Minute, 0},
}

// Result is what one step of a Machine asks for.
type Result struct {
	Send    []byte // a message to all servers of the link; nil: none
	Changed bool   // Lease is another one than before
	Note    string // what a person may want to know
}

// Machine is the client side of RFC 8415 for one link, as a pure step function. It belongs to one goroutine.
//
//	      Addresses, prefix        advertise                reply
//	off ─────────────> soliciting ───────────> requesting ─────────> bound <──────┐
//	 │                   ^   └── reply (rapid commit) ────────────────>  │ T1      │ reply
//	 │                   │                                          renewing ─────┤
//	 │                   └── end of the lease, refused, lacking          │ T2      │
//	 │                                                               rebinding ───┘
//	 │ Information               reply
//	 └───────────────> informing ──────> informed ── refresh time ──> informing
type Machine struct {
	cfg    Config
	mode   Mode
	prefix bool // one is asked for
	wish   netip.Prefix
	state  State
	xid    dhcpv6.TransactionID
	began  time.Duration // start of this exchange
	tries  int
	pause  time.Duration // until the next repetition
	next   time.Duration // when the state's timer fires; 0: never
	offer  Lease
	held   Lease
	inUse  bool

	refusals int           // in a row: a server that refuses is asked less and less often
	lacking  int           // replies in a row that lacked something
	silence  time.Duration // the longest pause between two solicitations that a server wants; 0: it says nothing
}

// New returns a machine that is off.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// State returns the state of the machine.
func (m *Machine) State() State { return m.state }

// Lease returns what is in use.
func (m *Machine) Lease() (Lease, bool) { return m.held, m.inUse }

// Listening reports whether a socket must be open now.
func (m *Machine) Listening() bool {
	return m.state != Off && m.state != Bound && m.state != Informed
}

// Adopt gives the machine what an earlier process has got.
func (m *Machine) Adopt(l Lease) { m.held, m.inUse = l, l.Ends() != 0 }

// Deadline returns the time of the next Timer; 0: never.
func (m *Machine) Deadline() time.Duration {
	ends := m.held.first()
	if m.inUse && ends != 0 && (m.next == 0 || ends < m.next) {
		return ends
	}
	return m.next
}

// Start follows what the routers say, and asks for a prefix if one is wanted. What is in use is asked for again.
func (m *Machine) Start(now time.Duration, mode Mode, prefix bool) Result {
	if mode == m.mode && prefix == m.prefix && m.state != Off {
		return Result{}
	}
	drop := m.prefix && !prefix && len(m.held.Prefixes) > 0
	m.mode, m.prefix, m.lacking = mode, prefix, 0
	if drop { // nobody wants it any more; the server's side ends it with its time
		m.held.Prefixes = nil
		m.inUse = m.inUse && m.held.Ends() != 0
	}
	r := Result{}
	switch {
	case m.stateful() && m.inUse && m.whole() && now < m.held.Ends():
		r = m.begin(now, Rebinding)
	case m.stateful():
		r = m.begin(now, Soliciting)
	case mode == Information:
		r = m.begin(now, Informing)
	default:
		m.state, m.next = Off, 0
	}
	r.Changed = drop
	return r
}

// stateful reports whether a server is to grant something.
func (m *Machine) stateful() bool { return m.mode == Addresses || m.prefix }

// whole reports whether nothing that is asked for is lacking.
func (m *Machine) whole() bool {
	return (m.mode != Addresses || len(m.held.Addresses) > 0) && (!m.prefix || len(m.held.Prefixes) > 0)
}

// Stop ends all questions, because the link has no carrier. What is in use stays so until Forget or its end.
func (m *Machine) Stop() { m.state, m.next = Off, 0 }

// Forget drops what is in use. It returns whether anything was.
func (m *Machine) Forget() bool {
	was := m.inUse
	m.held, m.inUse = Lease{}, false
	return was
}

// Timer does what is due.
func (m *Machine) Timer(now time.Duration) Result {
	if ends := m.held.first(); m.inUse && ends != 0 && now >= ends {
		return m.expire(now)
	}
	if m.next == 0 || now < m.next {
		return Result{}
	}
	switch m.state {
	case Bound:
		if !m.whole() {
			return m.begin(now, Soliciting)
		}
		return m.begin(now, Renewing)
	case Informed:
		return m.begin(now, Informing)
	case Renewing:
		if now >= m.held.Bound+m.held.Rebind {
			return m.begin(now, Rebinding)
		}
	case Requesting:
		if m.tries >= retries[Requesting].count {
			return m.begin(now, Soliciting)
		}
	}
	return m.send(now)
}

// expire drops what has ended, and starts again if nothing is left.
func (m *Machine) expire(now time.Duration) Result {
	m.held = m.held.without(now)
	if m.held.Ends() != 0 {
		return Result{Changed: true, Note: "a part of what the DHCPv6 server gave has ended"}
	}
	m.Forget()
	r := Result{Changed: true, Note: "what the DHCPv6 server gave has ended"}
	if m.state != Off {
		r.Send = m.begin(now, Soliciting).Send
	}
	return r
}

func (m *Machine) begin(now time.Duration, s State) Result {
	m.state, m.tries, m.began = s, 0, now
	x := m.cfg.Random()
	m.xid = dhcpv6.TransactionID{byte(x), byte(x >> 8), byte(x >> 16)}
	return m.send(now)
}

// send sends the message of the state and sets the time of its repetition.
func (m *Machine) send(now time.Duration) Result {
	kinds := map[State]dhcpv6.MessageType{Soliciting: dhcpv6.MessageTypeSolicit, Requesting: dhcpv6.MessageTypeRequest,
		Renewing: dhcpv6.MessageTypeRenew, Rebinding: dhcpv6.MessageTypeRebind,
		Informing: dhcpv6.MessageTypeInformationRequest}
	out := m.message(now, kinds[m.state])
	switch m.state {
	case Soliciting:
		out.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		m.identity(out, m.held)
	case Requesting:
		m.server(out, m.offer)
		m.identity(out, m.offer)
	case Renewing:
		m.server(out, m.held)
		m.identity(out, m.held)
	case Rebinding:
		m.identity(out, m.held)
	}
	r := retries[m.state]
	if m.tries == 0 {
		m.pause = r.first
	} else {
		m.pause = min(2*m.pause, m.longest())
	}
	m.tries++
	m.next = now + m.pause - m.pause/10 + time.Duration(m.cfg.Random())%(m.pause/5)
	if m.state == Renewing {
		m.next = max(min(m.next, m.held.Bound+m.held.Rebind), now+time.Second)
	}
	return Result{Send: out.ToBytes()}
}

// longest returns the longest pause between two messages. A server that has prefixes only for others, or none at all,
// is asked as rarely as the RFC says.
func (m *Machine) longest() time.Duration {
	if m.state == Soliciting && m.mode != Addresses {
		return cmp.Or(m.silence, solMaxRT)
	}
	return retries[m.state].longest
}

const solMaxRT = time.Hour // SOL_MAX_RT of RFC 8415

// Reply takes a parsed message from a server.
func (m *Machine) Reply(now time.Duration, r *dhcpv6.Message) Result {
	if r.TransactionID != m.xid || !m.Listening() {
		return Result{}
	}
	kind := r.Type()
	rapid := r.GetOneOption(dhcpv6.OptionRapidCommit) != nil
	if p, said := patience(r); said {
		m.silence = p
	}
	switch {
	case m.state == Soliciting && kind == dhcpv6.MessageTypeAdvertise:
		return m.advertised(now, r)
	case kind != dhcpv6.MessageTypeReply, m.state == Soliciting && !rapid:
		return Result{}
	}
	l, err := Grant(r, m.cfg.IAID)
	l.Bound = now
	switch {
	case errors.Is(err, errRefused) && m.state != Informing:
		changed := m.Forget()
		m.began, m.tries, m.state = now, 0, Soliciting
		m.next = now + min(time.Second<<min(m.refusals, 12), m.longest())
		m.refusals++
		return Result{Changed: changed, Note: err.Error()}
	case err != nil:
		return Result{Note: err.Error()}
	case m.state == Informing:
		m.state, m.next = Informed, now+l.Refresh
		l.Addresses, l.Prefixes = nil, nil
	case l.Ends() == 0:
		return Result{} // it says nothing about what is ours
	default:
		m.state, m.next = Bound, now+l.Renew
	}
	if !m.prefix {
		l.Prefixes = nil
	}
	m.held, m.inUse, m.refusals = l, true, 0
	note := ""
	if m.state == Bound && !m.whole() { // it is used, and the rest is asked for again, less and less often
		m.next = min(m.next, now+min(lackPause<<min(m.lacking, 10), solMaxRT))
		m.lacking++
		note = "the DHCPv6 server gives only a part of what was asked for"
	} else {
		m.lacking = 0
	}
	return Result{Changed: true, Note: note}
}

// lackPause is the time after which a server that gave only a part is asked for the rest.
const lackPause = 10 * time.Second

// advertised accepts the first usable offer; waiting for a better one would delay every boot.
func (m *Machine) advertised(now time.Duration, r *dhcpv6.Message) Result {
	l, err := Grant(r, m.cfg.IAID)
	if err != nil {
		return Result{Note: err.Error()}
	}
	if l.Ends() == 0 {
		return Result{}
	}
	m.offer = l
	return m.begin(now, Requesting)
}
