// Package addresspool owns the decisions of a DHCP server for one shared link: which client gets which address for how
// long, and what the answer to a client is.
//
// It is pure: it opens no socket, reads no clock and writes no file. All times are counted from kernel start. Any
// station on the link may send anything, so every table here has a limit.
//
// Read first: Machine.
package addresspool

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/services/hostname"
)

// Config is what a Machine is for.
type Config struct {
	Own    netip.Prefix  // the device's address on the link, with its network; it is router and name server too
	Length time.Duration // of a lease; 0: one hour
}

// The times and limits of the server.
const (
	defaultLength = time.Hour
	shortLength   = 5 * time.Minute        // of leases while few addresses are left
	offerTime     = 10 * time.Second       // how long an offered address waits for its client
	checkTime     = 400 * time.Millisecond // how long an answer to "who has this address?" is waited for
	badTime       = 10 * time.Minute       // how long an address is not given out that a stranger uses
	mostAddresses = 1024                   // that a link gives out
	mostChecks    = 16                     // addresses that are checked at once
	mostClaims    = 3                      // by strangers, in a row: then the next address is offered at once
)

// Hardware is the hardware address of a client.
type Hardware [6]byte

// String returns the address as people write it.
func (h Hardware) String() string { return net.HardwareAddr(h[:]).String() }

// state is what an address of the pool is used for. An address without an entry is free.
type state int

const (
	checking state = iota // asks whether a stranger has it, before it is offered
	offered
	bound
	bad // a stranger has it, or a client found that it is taken
)

type entry struct {
	state  state
	client Hardware
	name   string         // that the client gives itself, if it is valid
	until  time.Duration  // when this state ends
	query  *dhcpv4.DHCPv4 // of checking: what is answered then
}

// Machine is the server's memory. New creates one. It is not for use by several goroutines.
type Machine struct {
	cfg         Config
	first, last netip.Addr // of the pool
	size        int
	entries     map[netip.Addr]*entry
	clients     map[Hardware]netip.Addr // their address: checked, offered or bound
	claims      int                     // by strangers, since an address was found free
}

// Verb is what is to be done.
type Verb int

// The verbs of an Action.
const (
	Send  Verb = iota // Message to Client, at To
	Probe             // ask who on the link has the address To
	Save              // the leases have changed
	Note              // Reason is for the log
)

// Action is one thing that the caller does.
type Action struct {
	Verb    Verb
	Message *dhcpv4.DHCPv4
	To      netip.Addr // of Send: 255.255.255.255, or the client's address
	Client  Hardware
	Reason  string
}

// New returns a server without leases. It reports false if the network has no address to give out.
func New(cfg Config) (*Machine, bool) {
	if cfg.Length == 0 {
		cfg.Length = defaultLength
	}
	m := &Machine{cfg: cfg, entries: map[netip.Addr]*entry{}, clients: map[Hardware]netip.Addr{}}
	if !cfg.Own.Addr().Is4() || cfg.Own.Bits() > 30 || cfg.Own.Bits() < 8 {
		return m, false
	}
	hosts := 1<<(32-cfg.Own.Bits()) - 2
	begin, skip := 1, 0
	if hosts > 250 { // the first ones stay for stations with fixed addresses, as NetworkManager leaves them
		begin, hosts = 10, hosts-9
	}
	hosts = min(hosts, mostAddresses)
	m.first, m.last = m.at(begin), m.at(begin+hosts-1)
	if m.contains(cfg.Own.Addr()) {
		skip = 1
	}
	m.size = hosts - skip
	return m, m.size > 0
}

// at is the address with that number in the network.
func (m *Machine) at(number int) netip.Addr {
	b := m.cfg.Own.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(number))
	return netip.AddrFrom4(b)
}

func (m *Machine) contains(a netip.Addr) bool {
	return a.Is4() && a.Compare(m.first) >= 0 && a.Compare(m.last) <= 0
}

// gives reports whether an address can be given to a client.
func (m *Machine) gives(a netip.Addr) bool { return m.contains(a) && a != m.cfg.Own.Addr() }

// Receive answers one message of a client.
func (m *Machine) Receive(now time.Duration, q *dhcpv4.DHCPv4) []Action {
	hw, ok := hardwareOf(q)
	if !ok {
		return nil
	}
	m.expire(now)
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return m.discover(now, hw, q)
	case dhcpv4.MessageTypeRequest:
		return m.request(now, hw, q)
	case dhcpv4.MessageTypeDecline:
		return m.decline(now, hw, q)
	case dhcpv4.MessageTypeRelease:
		return m.release(now, hw, q)
	case dhcpv4.MessageTypeInform:
		return m.inform(hw, q)
	}
	return nil
}

// hardwareOf returns who asks. Relays, and addresses that no station can have, are not served.
func hardwareOf(q *dhcpv4.DHCPv4) (hw Hardware, ok bool) {
	relayed := len(q.GatewayIPAddr) > 0 && !q.GatewayIPAddr.IsUnspecified()
	if q.OpCode != dhcpv4.OpcodeBootRequest || q.HWType != 1 || len(q.ClientHWAddr) != len(hw) || relayed {
		return hw, false
	}
	hw = Hardware(q.ClientHWAddr)
	return hw, hw != Hardware{} && hw[0]&1 == 0
}

func (m *Machine) discover(now time.Duration, hw Hardware, q *dhcpv4.DHCPv4) []Action {
	if a, has := m.clients[hw]; has {
		e := m.entries[a]
		switch e.state {
		case bound:
			return []Action{m.reply(dhcpv4.MessageTypeOffer, hw, q, a, now)}
		case offered:
			e.until = now + offerTime
			return []Action{m.reply(dhcpv4.MessageTypeOffer, hw, q, a, now)}
		}
		return nil // the check goes on
	}
	a, ok := m.choose(now, hw, addr(q.RequestedIPAddress()))
	if !ok {
		return []Action{{Verb: Note, Client: hw, Reason: "no address is left for " + hw.String()}}
	}
	if m.count(checking) >= mostChecks || m.count(offered) > m.size/2 {
		return nil // like a lost packet: the client asks again
	}
	if m.claims >= mostClaims {
		m.claims = 0 // the next address is checked again
		m.put(a, &entry{state: offered, client: hw, until: now + offerTime})
		return []Action{m.reply(dhcpv4.MessageTypeOffer, hw, q, a, now)}
	}
	m.put(a, &entry{state: checking, client: hw, until: now + checkTime, query: q})
	return []Action{{Verb: Probe, To: a}}
}

// choose finds an address for a new client: the one it asks for, else one that follows from its hardware address, so
// that it gets the same one after a restart of the device.
func (m *Machine) choose(now time.Duration, hw Hardware, wish netip.Addr) (netip.Addr, bool) {
	if m.gives(wish) && m.entries[wish] == nil {
		return wish, true
	}
	h := fnv.New32a()
	h.Write(hw[:])
	a := m.first
	for range int(h.Sum32()>>1) % m.span() {
		a = a.Next()
	}
	for range m.span() {
		if m.gives(a) && m.entries[a] == nil {
			return a, true
		}
		if a = a.Next(); !m.contains(a) {
			a = m.first
		}
	}
	return a, false
}

// span is the number of addresses from the first to the last one.
func (m *Machine) span() int {
	first, last := m.first.As4(), m.last.As4()
	return int(binary.BigEndian.Uint32(last[:])-binary.BigEndian.Uint32(first[:])) + 1
}

func (m *Machine) count(s state) (n int) {
	for _, e := range m.entries {
		if e.state == s {
			n++
		}
	}
	return n
}

func (m *Machine) put(a netip.Addr, e *entry) {
	m.entries[a] = e
	if e.state != bad {
		m.clients[e.client] = a
	}
}

func (m *Machine) free(a netip.Addr) {
	if e := m.entries[a]; e != nil && m.clients[e.client] == a {
		delete(m.clients, e.client)
	}
	delete(m.entries, a)
}

// request is the client's choice, or the confirmation or renewal of an address that it has.
func (m *Machine) request(now time.Duration, hw Hardware, q *dhcpv4.DHCPv4) []Action {
	server, wish := addr(q.ServerIdentifier()), addr(q.RequestedIPAddress())
	has := addr(q.ClientIPAddr)
	if server.IsValid() && server != m.cfg.Own.Addr() {
		if a, ours := m.clients[hw]; ours && m.entries[a].state != bound {
			m.free(a) // it has chosen another server
		}
		return nil
	}
	if !wish.IsValid() || wish.IsUnspecified() {
		wish = has
	}
	if !wish.IsValid() || wish.IsUnspecified() {
		return nil // it asks for nothing
	}
	e := m.entries[wish]
	mine := e != nil && e.client == hw && e.state != bad
	switch {
	case !m.gives(wish), e != nil && !mine, server.IsValid() && !mine:
		return []Action{m.refuse(hw, q)}
	case mine && e.state == checking:
		return nil // it did not get an offer yet: it guesses
	}
	if old, other := m.clients[hw]; other && old != wish {
		m.free(old)
	}
	if e == nil || e.state != bound {
		e = &entry{state: bound, client: hw}
		m.put(wish, e)
	}
	length := m.length()
	e.until, e.name = now+length, nameOf(q)
	answer := m.reply(dhcpv4.MessageTypeAck, hw, q, wish, now)
	return []Action{{Verb: Save}, answer}
}

// length is that of a lease now.
func (m *Machine) length() time.Duration {
	if len(m.entries) > m.size*3/4 {
		return min(shortLength, m.cfg.Length)
	}
	return m.cfg.Length
}

func nameOf(q *dhcpv4.DHCPv4) string {
	if name := q.HostName(); hostname.ValidLabel(name) {
		return name
	}
	return ""
}

// decline says that a stranger has the address which the client was given.
func (m *Machine) decline(now time.Duration, hw Hardware, q *dhcpv4.DHCPv4) []Action {
	a := addr(q.RequestedIPAddress())
	if e := m.entries[a]; e == nil || e.client != hw || e.state != bound && e.state != offered {
		return nil
	}
	m.spoil(now, a)
	note := hw.String() + " found another station with " + a.String()
	return []Action{{Verb: Save}, {Verb: Note, Client: hw, Reason: note}}
}

// spoil keeps an address from being given out for a while. At most a quarter of the pool is kept so: a client that
// declines all that it gets does not empty the pool.
func (m *Machine) spoil(now time.Duration, a netip.Addr) {
	m.free(a)
	var oldest netip.Addr
	n := 0
	for at, e := range m.entries {
		if e.state == bad {
			n++
			if !oldest.IsValid() || e.until < m.entries[oldest].until {
				oldest = at
			}
		}
	}
	if n > 0 && n >= m.size/4 {
		m.free(oldest)
	}
	m.put(a, &entry{state: bad, until: now + badTime})
}

func (m *Machine) release(_ time.Duration, hw Hardware, q *dhcpv4.DHCPv4) []Action {
	a := addr(q.ClientIPAddr)
	if e := m.entries[a]; e == nil || e.client != hw || e.state != bound {
		return nil
	}
	m.free(a)
	return []Action{{Verb: Save}}
}

// inform answers a station that has its address from elsewhere and wants the rest.
func (m *Machine) inform(hw Hardware, q *dhcpv4.DHCPv4) []Action {
	a := addr(q.ClientIPAddr)
	if !m.cfg.Own.Contains(a) || a == m.cfg.Own.Addr() {
		return nil
	}
	r := m.base(dhcpv4.MessageTypeAck, q)
	m.options(r)
	r.ClientIPAddr = net.IP(a.AsSlice())
	return []Action{{Verb: Send, Message: r, To: a, Client: hw}}
}

// Heard says that a station with this hardware address claims an address that is being checked.
func (m *Machine) Heard(now time.Duration, a netip.Addr, who net.HardwareAddr) []Action {
	e := m.entries[a]
	if e == nil || e.state != checking || bytes.Equal(who, e.client[:]) {
		return nil
	}
	q, hw := e.query, e.client
	m.claims++
	m.spoil(now, a)
	note := Action{Verb: Note, Client: hw, Reason: "another station has " + a.String() + ": " + who.String()}
	return append([]Action{note}, m.discover(now, hw, q)...)
}

// Checking returns the addresses about which the link is being asked.
func (m *Machine) Checking() []netip.Addr {
	var out []netip.Addr
	for a, e := range m.entries {
		if e.state == checking {
			out = append(out, a)
		}
	}
	return out
}

// Deadline returns when Tick has something to do; 0: never.
func (m *Machine) Deadline() time.Duration {
	var first time.Duration
	for _, e := range m.entries {
		if e.state == checking && (first == 0 || e.until < first) {
			first = e.until
		}
	}
	return first
}

// Tick offers the addresses whose check is over.
func (m *Machine) Tick(now time.Duration) []Action {
	m.expire(now)
	var out []Action
	for a, e := range m.entries {
		if e.state != checking || now < e.until {
			continue
		}
		out = append(out, m.reply(dhcpv4.MessageTypeOffer, e.client, e.query, a, now))
		e.state, e.until, e.query = offered, now+offerTime, nil
		m.claims = 0
	}
	return out
}

// expire frees what is over.
func (m *Machine) expire(now time.Duration) {
	for a, e := range m.entries {
		if e.state != checking && now >= e.until {
			m.free(a)
		}
	}
}
