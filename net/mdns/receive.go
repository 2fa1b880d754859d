package mdns

import (
	"net/netip"
	"slices"
	"time"

	"resinos/net/dnswire"
)

// Receive takes a message and returns what is to be sent at once. Messages from outside the link are ignored.
func (m *Machine) Receive(now time.Duration, p Packet) []Send {
	s := m.links[p.Link]
	if s == nil || !s.near(p.From.Addr()) {
		return nil
	}
	if p.Message.Reply {
		if p.From.Port() == port {
			m.heard(now, s, p)
		}
		return nil
	}
	return m.asked(now, s, p)
}

// near reports whether an address is on the link.
func (s *state) near(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(s.addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

// own reports whether an address is the device's: its other links may be on the same network.
func (m *Machine) own(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, s := range m.links {
		if slices.ContainsFunc(s.addresses, func(p netip.Prefix) bool { return p.Addr().WithZone("") == a }) {
			return true
		}
	}
	return false
}

// heard compares another host's answers with our names.
func (m *Machine) heard(now time.Duration, s *state, p Packet) {
	if m.own(p.From.Addr()) {
		return
	}
	ours := m.records(s)
	for _, r := range p.Message.Answer {
		if i := slices.IndexFunc(ours, func(o dnswire.Record) bool { return same(o, r) }); i >= 0 {
			if r.TTL >= ours[i].TTL/2 {
				delete(s.due, key(r)) // it has been said
			}
			continue
		}
		if r.TTL == 0 || !m.disputed(ours, r) {
			continue
		}
		if s.probed > probes {
			m.probe(now, s) // whoever keeps the name answers the probes
			continue
		}
		m.lose(now)
		return
	}
}

// disputed reports whether a record of another host is about a name that we want for us alone.
func (m *Machine) disputed(ours []dnswire.Record, r dnswire.Record) bool {
	return r.Type != dnswire.TypePTR && r.Type != dnswire.TypeNSEC && r.Class&^flush == dnswire.ClassIN &&
		slices.ContainsFunc(ours, func(o dnswire.Record) bool { return unique(o) && o.Name == r.Name })
}

// lose takes the next name, on all links.
func (m *Machine) lose(now time.Duration) {
	m.suffix++
	m.probeAll(now)
	m.lost = append(m.lost, now)
	if len(m.lost) < manyConflicts {
		return
	}
	m.lost = m.lost[len(m.lost)-manyConflicts:]
	if now-m.lost[0] < 10*time.Second {
		for _, s := range m.links {
			s.next = now + calmPause
		}
	}
}

// asked answers a query. Only the records of names that are ours already are given out.
func (m *Machine) asked(now time.Duration, s *state, p Packet) []Send {
	if len(p.Message.Authority) > 0 && s.probed <= probes {
		m.compete(now, s, p)
	}
	for _, r := range p.Message.Answer { // what the client knows already
		for k, a := range s.due {
			if same(a.record, r) && r.TTL >= a.record.TTL/2 {
				delete(s.due, k)
			}
		}
	}
	if s.probed <= probes {
		return nil
	}
	records := m.records(s)
	legacy := p.From.Port() != port
	var alone []dnswire.Record
	for _, q := range p.Message.Questions {
		for _, r := range matching(records, q) {
			known := slices.ContainsFunc(p.Message.Answer, func(k dnswire.Record) bool {
				return same(k, r) && k.TTL >= r.TTL/2
			})
			switch {
			case known && !legacy:
			case legacy || q.Class&wantsOnly != 0 && s.recently(r, now):
				alone = append(alone, r)
			default:
				m.answer(now, s, r, p.Message)
			}
		}
	}
	var out []Send
	if len(alone) > 0 {
		out = append(out, s.direct(p, alone, legacy))
	}
	if one, any := s.flush(now, records); any {
		out = append(out, one)
	}
	return out
}

// compete decides against another host that probes for our names at the same time.
func (m *Machine) compete(now time.Duration, s *state, p Packet) {
	if m.own(p.From.Addr()) || s.probed == 0 {
		return
	}
	names := map[dnswire.Name]bool{}
	var ours []dnswire.Record
	for _, r := range p.Message.Authority {
		names[r.Name] = true
	}
	for _, r := range m.question(m.records(s)).Authority {
		if names[r.Name] {
			ours = append(ours, r)
		}
	}
	theirs := slices.DeleteFunc(slices.Clone(p.Message.Authority), func(r dnswire.Record) bool {
		return !slices.ContainsFunc(ours, func(o dnswire.Record) bool { return o.Name == r.Name })
	})
	if len(ours) > 0 && later(theirs, ours) > 0 {
		m.probe(now, s)
		s.next = now + lostPause
	}
}

// matching returns our records that answer a question, or the denial if the name is ours and has none of the type.
func matching(records []dnswire.Record, q dnswire.Question) []dnswire.Record {
	if class := q.Class &^ wantsOnly; class != dnswire.ClassIN && class != anyClass {
		return nil
	}
	var out []dnswire.Record
	ours := false
	for _, r := range records {
		if r.Name != q.Name {
			continue
		}
		ours = ours || unique(r)
		if r.Type == q.Type || q.Type == dnswire.TypeANY {
			out = append(out, r)
		}
	}
	if len(out) == 0 && ours {
		return []dnswire.Record{denial(q.Name, records)}
	}
	return out
}

// recently reports whether the group has heard the record, so that one client alone may get it.
func (s *state) recently(r dnswire.Record, now time.Duration) bool {
	at, known := s.sent[key(r)]
	return known && now-at < time.Duration(r.TTL)*time.Second/4
}

// answer has a record sent to the group: at once if only we can answer, else after a moment in which others may.
func (m *Machine) answer(now time.Duration, s *state, r dnswire.Record, query dnswire.Message) {
	pause := restPause
	if len(query.Authority) > 0 {
		pause = defendPause
	}
	if at, known := s.sent[key(r)]; known && now-at < pause {
		return
	}
	at := now
	switch {
	case query.Truncated:
		at += 400*time.Millisecond + m.random(100*time.Millisecond) // the client goes on with what it knows
	case !unique(r):
		at += 20*time.Millisecond + m.random(100*time.Millisecond)
	}
	if s.due == nil {
		s.due = map[string]answer{}
	}
	if _, waits := s.due[key(r)]; !waits {
		s.due[key(r)] = answer{r, at}
	}
}

// direct returns the answer to one client. One that does not speak mDNS gets its question back, short lifetimes, and no
// bits that it does not know (RFC 6762, 6.7).
func (s *state) direct(p Packet, records []dnswire.Record, legacy bool) Send {
	out := s.response(slices.Clone(records), nil)
	out.To = p.From
	if !legacy {
		return out
	}
	out.Message.ID = p.Message.ID
	for _, q := range p.Message.Questions {
		q.Class &^= wantsOnly
		out.Message.Questions = append(out.Message.Questions, q)
	}
	for i := range out.Message.Answer {
		r := &out.Message.Answer[i]
		r.Class &^= flush
		r.TTL = min(r.TTL, 10)
	}
	return out
}
