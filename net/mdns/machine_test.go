package mdns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/net/dnswire"
)

var (
	subnet = netip.MustParsePrefix("10.9.0.2/24")
	peer   = netip.MustParseAddrPort("10.9.0.1:5353")
)

// world is a machine with one link, and its clock.
type world struct {
	*Machine
	t   *testing.T
	now time.Duration
}

func newWorld(t *testing.T) *world {
	w := &world{NewMachine("device", []Service{ssh}), t, time.Second}
	w.random = func(d time.Duration) time.Duration { return d / 2 }
	w.Link(w.now, 1, []netip.Prefix{subnet})
	return w
}

// pass lets the time pass until the machine has nothing to do, or for at most so long; it returns what was sent.
func (w *world) pass(d time.Duration) (out []Send) {
	end := w.now + d
	for at := w.Deadline(); at != 0 && at <= end; at = w.Deadline() {
		w.now = max(w.now, at)
		out = append(out, w.Tick(w.now)...)
	}
	w.now = end
	return out
}

func (w *world) hear(from netip.AddrPort, m dnswire.Message) []Send {
	return w.Receive(w.now, Packet{Link: 1, From: from, Message: m})
}

// settled is a world whose names are its own.
func settled(t *testing.T) *world {
	w := newWorld(t)
	sent := w.pass(10 * time.Second)
	var kinds []string
	for _, s := range sent {
		if s.Message.Reply {
			kinds = append(kinds, "announce")
		} else {
			kinds = append(kinds, "probe")
		}
	}
	if want := "probe probe probe announce announce"; strings.Join(kinds, " ") != want {
		t.Fatalf("sent %v, want %s", kinds, want)
	}
	return w
}

func a(name, address string) dnswire.Record {
	return dnswire.Record{Name: dnswire.Must(name), Type: dnswire.TypeA, Class: dnswire.ClassIN | flush, TTL: 120,
		Data: netip.MustParseAddr(address).AsSlice()}
}

func reply(records ...dnswire.Record) dnswire.Message {
	return dnswire.Message{Reply: true, Answer: records}
}

func query(name string, kind uint16, known ...dnswire.Record) dnswire.Message {
	return dnswire.Message{Answer: known, Questions: []dnswire.Question{{Name: dnswire.Must(name), Type: kind,
		Class: dnswire.ClassIN}}}
}

func TestConflict(t *testing.T) {
	w := newWorld(t)
	w.pass(200 * time.Millisecond)
	w.hear(peer, reply(a("device.local", "10.9.0.1")))
	if got := w.Host().String(); got != "device-2.local" {
		t.Errorf("while probing another host answers: %s", got)
	}
	w = settled(t)
	w.hear(peer, reply(a("device.local", "10.9.0.1")))
	if got := w.Host().String(); got != "device.local" || w.links[1].probed != 0 {
		t.Errorf("after that: %s, %d probes", got, w.links[1].probed)
	}
	dispute := reply(a("device.local", "10.9.0.9"))
	goodbye := a("device.local", "10.9.0.9")
	goodbye.TTL = 0
	for name, m := range map[string]Packet{
		"our own link":    {Link: 1, From: netip.MustParseAddrPort("10.9.0.2:5353"), Message: dispute},
		"not on the link": {Link: 1, From: netip.MustParseAddrPort("192.0.2.1:5353"), Message: dispute},
		"another port":    {Link: 1, From: netip.MustParseAddrPort("10.9.0.1:5300"), Message: dispute},
		"our own words":   {Link: 1, From: peer, Message: reply(a("device.local", "10.9.0.2"))},
		"a goodbye":       {Link: 1, From: peer, Message: reply(goodbye)},
		"another name":    {Link: 1, From: peer, Message: reply(a("else.local", "10.9.0.9"))},
		"another link":    {Link: 2, From: peer, Message: dispute},
	} {
		w := settled(t)
		if w.Receive(w.now, m); w.links[1].probed <= probes || w.Host().String() != "device.local" {
			t.Errorf("%s: taken for a conflict", name)
		}
	}
}

// TestWar: a host that takes every name gets us to slow down.
func TestWar(t *testing.T) {
	w := newWorld(t)
	sent := 0
	for end := w.now + time.Minute; w.now < end; {
		w.hear(peer, reply(a(strings.TrimSuffix(w.Host().String(), "."), "10.9.0.1")))
		sent += len(w.pass(100 * time.Millisecond))
	}
	if w.suffix < manyConflicts || sent > 60 {
		t.Errorf("%d names were tried and %d messages sent in a minute", w.suffix, sent)
	}
	w.pass(20 * time.Second)
	if w.links[1].probed <= probes {
		t.Error("no name when the other host is quiet")
	}
}

// TestTogether: of two hosts that want a name at the same time, the one with the later address gets it.
func TestTogether(t *testing.T) {
	for address, wins := range map[string]bool{"10.9.0.1": true, "10.9.0.2": true, "10.9.0.3": false} {
		w := newWorld(t)
		w.services = nil
		w.pass(200 * time.Millisecond)
		theirs := a("device.local", address)
		theirs.Class = dnswire.ClassIN
		m := query("device.local", dnswire.TypeANY)
		m.Authority = []dnswire.Record{theirs}
		w.hear(peer, m)
		if got := w.links[1].probed > 0; got != wins {
			t.Errorf("against %s: goes on = %t, want %t", address, got, wins)
		}
	}
}

func TestAnswers(t *testing.T) {
	count := func(list []Send, kind uint16) (n int) {
		for _, s := range list {
			for _, r := range s.Message.Answer {
				if r.Type == kind {
					n++
				}
			}
		}
		return n
	}
	w := settled(t)
	first := w.hear(peer, query("device.local", dnswire.TypeA))
	if count(first, dnswire.TypeA) != 1 || first[0].To.IsValid() {
		t.Errorf("for our address: %+v", first)
	}
	if again := w.hear(peer, query("device.local", dnswire.TypeA)); len(again) != 0 {
		t.Error("sent twice within a second")
	}
	w.pass(2 * time.Second)
	if known := w.hear(peer, query("device.local", dnswire.TypeA, a("device.local", "10.9.0.2"))); len(known) != 0 {
		t.Errorf("the client knows the answer: %+v", known)
	}
	if none := w.hear(peer, query("device.local", dnswire.TypeAAAA)); count(none, dnswire.TypeNSEC) != 1 {
		t.Errorf("for a type that there is not: %+v", none)
	}
	if other := w.hear(peer, query("else.local", dnswire.TypeA)); len(other) != 0 {
		t.Errorf("for another name: %+v", other)
	}
	if now := w.hear(peer, query("_ssh._tcp.local", dnswire.TypePTR)); len(now) != 0 {
		t.Error("what others may answer too is sent at once")
	}
	if later := w.pass(time.Second); count(later, dnswire.TypePTR) != 1 || len(later[0].Message.Further) != 3 {
		t.Errorf("ssh: %+v", later)
	}
	w.pass(2 * time.Second)
	w.hear(peer, query("_ssh._tcp.local", dnswire.TypePTR))
	others := w.records(w.links[1])
	i := slices.IndexFunc(others, func(r dnswire.Record) bool { return r.Name == dnswire.Must("_ssh._tcp.local") })
	w.hear(peer, reply(others[i]))
	if later := w.pass(time.Second); len(later) != 0 {
		t.Errorf("said again what was just said: %+v", later)
	}
	legacy := w.hear(netip.MustParseAddrPort("10.9.0.1:40000"), query("device.local", dnswire.TypeA))
	if len(legacy) != 1 || legacy[0].To.Port() != 40000 || legacy[0].Message.Answer[0].Class != dnswire.ClassIN ||
		legacy[0].Message.Answer[0].TTL > 10 || len(legacy[0].Message.Questions) != 1 {
		t.Errorf("to a client without mDNS: %+v", legacy)
	}
	if early := newWorld(t).hear(peer, query("device.local", dnswire.TypeA)); len(early) != 0 {
		t.Error("a name was given out before it was ours")
	}
}

// TestFlood: queries of all kinds do not make us send a record more often than once a second.
func TestFlood(t *testing.T) {
	w := settled(t)
	before := w.now
	sent := 0
	for range 20000 {
		sent += len(w.hear(peer, query("device.local", dnswire.TypeANY)))
		sent += len(w.pass(time.Millisecond))
	}
	if most := int((w.now-before)/time.Second) + 1; sent > most {
		t.Errorf("%d messages in %s", sent, w.now-before)
	}
}

func TestGoodbye(t *testing.T) {
	w := settled(t)
	out := w.Rename(w.now, "new", nil)
	if len(out) != 1 || len(out[0].Message.Answer) != 7 || slices.ContainsFunc(out[0].Message.Answer,
		func(r dnswire.Record) bool { return r.TTL != 0 }) {
		t.Errorf("goodbye is %+v", out)
	}
	w.pass(10 * time.Second)
	if got := w.Host().String(); got != "new.local" || len(w.Goodbye()[0].Message.Answer) != 2 {
		t.Errorf("the new name is %s", got)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(query("device.local", dnswire.TypeANY).Pack(), uint16(5353))
	f.Add(reply(a("device.local", "10.9.0.1")).Pack(), uint16(40000))
	f.Fuzz(func(t *testing.T, p []byte, from uint16) {
		m, err := dnswire.ParseMessage(p)
		if err != nil {
			return
		}
		w := settled(t)
		for _, s := range w.hear(netip.AddrPortFrom(peer.Addr(), from), m) {
			if _, err := dnswire.ParseMessage(s.Message.Pack()); err != nil {
				t.Fatalf("our own message is not valid: %v", err)
			}
		}
		w.pass(time.Second)
	})
}
