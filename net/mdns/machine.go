package mdns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"resinos/net/dnswire"
)

// The times of RFC 6762, 6, 8.1, 8.3.
const (
	probePause    = 250 * time.Millisecond
	probes        = 3
	announcePause = time.Second
	announces     = 2
	lostPause     = time.Second     // after another host won the same name
	calmPause     = 5 * time.Second // between probes, after many conflicts
	manyConflicts = 15
	restPause     = time.Second // a record is not sent again sooner
	defendPause   = probePause  // … unless somebody probes for it
)

// Send is a message that the machine wants to be sent.
type Send struct {
	Link    int
	To      netip.AddrPort // not valid: the group
	Message dnswire.Message
}

// Packet is a message that came over a link.
type Packet struct {
	Link    int
	From    netip.AddrPort
	Message dnswire.Message
}

// Machine decides what to send. It reads no clock and has no sockets: the caller passes each instant, and asks Deadline
// when to call Tick.
//
//	probing ──3 probes, no conflict──> announcing ──2 announcements──> established
//	   ^  └── conflict: the next name ──┐                                  │
//	   └────────────────────────────────┴── another host uses our name ────┘
type Machine struct {
	hostname string
	suffix   int // 1: none
	services []Service
	links    map[int]*state
	lost     []time.Duration // when names were lost, the last manyConflicts
	random   func(time.Duration) time.Duration
}

// state is what happens on one link.
type state struct {
	index     int
	addresses []netip.Prefix
	probed    int // probes sent; more than probes: the names are ours
	announced int
	next      time.Duration            // of the next probe or announcement; 0: none
	sent      map[string]time.Duration // when a record was last sent to the group
	due       map[string]answer        // records to be sent to the group
}

type answer struct {
	record dnswire.Record
	at     time.Duration
}

// NewMachine returns a machine without links.
func NewMachine(hostname string, services []Service) *Machine {
	return &Machine{hostname: hostname, suffix: 1, services: services, links: map[int]*state{},
		random: func(d time.Duration) time.Duration { return rand.N(d) }}
}

// Host returns the name that the device has or tries to get.
func (m *Machine) Host() dnswire.Name { return hostOf(m.hostname, m.suffix) }

func (m *Machine) records(s *state) []dnswire.Record {
	return published(m.Host(), s.addresses, m.services)
}

// Link begins on a link, or takes note of its new addresses.
func (m *Machine) Link(now time.Duration, index int, addresses []netip.Prefix) {
	s := m.links[index]
	switch {
	case s == nil:
		s = &state{index: index, addresses: addresses}
		m.links[index] = s
		m.probe(now, s)
	case !slices.Equal(s.addresses, addresses):
		s.addresses = addresses
		if s.probed > probes {
			s.announced, s.next, s.sent = 0, now, nil
		}
	}
}

// Gone ends on a link.
func (m *Machine) Gone(index int) { delete(m.links, index) }

// Rename gives the device another host name and other services. It returns the messages that take the old ones back.
func (m *Machine) Rename(now time.Duration, hostname string, services []Service) []Send {
	if hostname == m.hostname && slices.Equal(services, m.services) {
		return nil
	}
	out := m.Goodbye()
	m.hostname, m.suffix, m.services = hostname, 1, services
	m.probeAll(now)
	return out
}

// Goodbye returns the messages that take all records back.
func (m *Machine) Goodbye() []Send {
	var out []Send
	for _, s := range m.links {
		if s.probed <= probes {
			continue
		}
		records := m.records(s)
		for i := range records {
			records[i].TTL = 0
		}
		out = append(out, s.response(records, nil))
	}
	return out
}

func (s *state) response(records, further []dnswire.Record) Send {
	return Send{Link: s.index, Message: dnswire.Message{Reply: true, Authoritative: true, Answer: records,
		Further: further}}
}

func (m *Machine) probeAll(now time.Duration) {
	for _, s := range m.links {
		m.probe(now, s)
	}
}

func (m *Machine) probe(now time.Duration, s *state) {
	s.probed, s.announced, s.next = 0, 0, now+m.random(probePause)
	s.sent, s.due = nil, nil
}

// Deadline returns when Tick has something to do; 0: never.
func (m *Machine) Deadline() time.Duration {
	var first time.Duration
	at := func(t time.Duration) {
		if t != 0 && (first == 0 || t < first) {
			first = t
		}
	}
	for _, s := range m.links {
		at(s.next)
		for _, a := range s.due {
			at(a.at)
		}
	}
	return first
}

// Tick returns what is to be sent now.
func (m *Machine) Tick(now time.Duration) []Send {
	var out []Send
	for _, s := range m.links {
		if s.next != 0 && s.next <= now {
			out = append(out, m.advance(now, s))
		}
		if one, any := s.flush(now, m.records(s)); any {
			out = append(out, one)
		}
	}
	return out
}

// advance sends the next probe or announcement.
func (m *Machine) advance(now time.Duration, s *state) Send {
	records := m.records(s)
	if s.probed < probes {
		s.probed++
		s.next = now + probePause
		return Send{Link: s.index, Message: m.question(records)}
	}
	s.probed = probes + 1
	s.announced++
	s.next = now + announcePause
	if s.announced >= announces {
		s.next = 0
	}
	for _, r := range records {
		s.note(r, now)
	}
	return s.response(records, nil)
}

// question returns a probe: it asks for our names, and says what we want to publish there.
func (m *Machine) question(records []dnswire.Record) dnswire.Message {
	var out dnswire.Message
	for _, r := range records {
		if !unique(r) || r.Type == dnswire.TypePTR {
			continue // nobody else can have our address
		}
		q := dnswire.Question{Name: r.Name, Type: dnswire.TypeANY, Class: dnswire.ClassIN | wantsOnly}
		if !slices.Contains(out.Questions, q) {
			out.Questions = append(out.Questions, q)
		}
		r.Class &^= flush
		out.Authority = append(out.Authority, r)
	}
	return out
}

func key(r dnswire.Record) string {
	return string(r.Name) + string([]byte{byte(r.Type >> 8), byte(r.Type)}) + string(r.Data)
}

func (s *state) note(r dnswire.Record, now time.Duration) {
	if s.sent == nil || len(s.sent) > 256 {
		s.sent = map[string]time.Duration{}
	}
	s.sent[key(r)] = now
}

// flush returns the message with the answers that are due, out of all records of the link.
func (s *state) flush(now time.Duration, all []dnswire.Record) (Send, bool) {
	var records []dnswire.Record
	for k, a := range s.due {
		if a.at <= now {
			records = append(records, a.record)
			s.note(a.record, now)
			delete(s.due, k)
		}
	}
	if len(records) == 0 {
		return Send{}, false
	}
	slices.SortStableFunc(records, func(a, b dnswire.Record) int { return compareText(key(a), key(b)) })
	return s.response(records, beside(records, all)), true
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
