package dhcp6

import (
	"errors"
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
//	      Addresses                advertise                reply
//	off ─────────────> soliciting ───────────> requesting ─────────> bound <──────┐
//	 │                   ^   └── reply (rapid commit) ────────────────>  │ T1      │ reply
//	 │                   │                                          renewing ─────┤
//	 │                   └── end of the lease, refused                   │ T2      │
//	 │                                                               rebinding ───┘
//	 │ Information               reply
//	 └───────────────> informing ──────> informed ── refresh time ──> informing
type Machine struct {
	cfg   Config
	mode  Mode
	state State
	xid   dhcpv6.TransactionID
	began time.Duration // start of this exchange
	tries int
	pause time.Duration // until the next repetition
	next  time.Duration // when the state's timer fires; 0: never
	offer Lease
	held  Lease
	inUse bool

	refusals int // in a row: a server that refuses is asked less and less often
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

// Adopt gives the machine addresses that an earlier process has put on the link.
func (m *Machine) Adopt(l Lease) { m.held, m.inUse = l, len(l.Addresses) > 0 }

// Deadline returns the time of the next Timer; 0: never.
func (m *Machine) Deadline() time.Duration {
	ends := m.held.Ends()
	if m.inUse && ends != 0 && (m.next == 0 || ends < m.next) {
		return ends
	}
	return m.next
}

// Start follows what the routers say. Addresses that are in use are asked for again.
func (m *Machine) Start(now time.Duration, mode Mode) Result {
	if mode == m.mode && m.state != Off {
		return Result{}
	}
	m.mode = mode
	switch {
	case mode == Addresses && m.inUse && now < m.held.Ends():
		return m.begin(now, Rebinding)
	case mode == Addresses:
		return m.begin(now, Soliciting)
	case mode == Information:
		return m.begin(now, Informing)
	}
	m.state, m.next = Off, 0
	return Result{}
}

// Stop ends all questions, because the link has no carrier. What is in use stays so until Forget or its end.
func (m *Machine) Stop() { m.mode, m.state, m.next = None, Off, 0 }

// Forget drops what is in use. It returns whether anything was.
func (m *Machine) Forget() bool {
	was := m.inUse
	m.held, m.inUse = Lease{}, false
	return was
}

// Timer does what is due.
func (m *Machine) Timer(now time.Duration) Result {
	if ends := m.held.Ends(); m.inUse && ends != 0 && now >= ends {
		m.Forget()
		r := Result{Changed: true, Note: "the addresses of the DHCPv6 server have ended"}
		if m.state != Off {
			r.Send = m.begin(now, Soliciting).Send
		}
		return r
	}
	if m.next == 0 || now < m.next {
		return Result{}
	}
	switch m.state {
	case Bound:
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
		m.identity(out, Lease{})
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
		m.pause = min(2*m.pause, r.longest)
	}
	m.tries++
	m.next = now + m.pause - m.pause/10 + time.Duration(m.cfg.Random())%(m.pause/5)
	if m.state == Renewing {
		m.next = max(min(m.next, m.held.Bound+m.held.Rebind), now+time.Second)
	}
	return Result{Send: out.ToBytes()}
}

// Reply takes a parsed message from a server.
func (m *Machine) Reply(now time.Duration, r *dhcpv6.Message) Result {
	if r.TransactionID != m.xid || !m.Listening() {
		return Result{}
	}
	kind := r.Type()
	rapid := r.GetOneOption(dhcpv6.OptionRapidCommit) != nil
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
		m.next = now + min(time.Second<<min(m.refusals, 10), retries[Soliciting].longest)
		m.refusals++
		return Result{Changed: changed, Note: err.Error()}
	case err != nil:
		return Result{Note: err.Error()}
	case m.state == Informing:
		m.state, m.next = Informed, now+l.Refresh
		l.Addresses = nil
	case len(l.Addresses) == 0:
		return Result{} // it says nothing about our addresses
	default:
		m.state, m.next = Bound, now+l.Renew
	}
	m.held, m.inUse, m.refusals = l, true, 0
	return Result{Changed: true}
}

// advertised accepts the first usable offer; waiting for a better one would delay every boot.
func (m *Machine) advertised(now time.Duration, r *dhcpv6.Message) Result {
	l, err := Grant(r, m.cfg.IAID)
	if err != nil {
		return Result{Note: err.Error()}
	}
	if len(l.Addresses) == 0 {
		return Result{}
	}
	m.offer = l
	return m.begin(now, Requesting)
}
