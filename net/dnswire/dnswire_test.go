package dnswire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// packed returns a message of the other implementation.
func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func unpacked(t testing.TB, p []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(p); err != nil {
		t.Fatalf("the other implementation refuses %x: %v", p, err)
	}
	return m
}

func records(t testing.TB, texts ...string) (out []dns.RR) {
	t.Helper()
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func TestName(t *testing.T) {
	for text, want := range map[string]Name{
		"": "\x00", ".": "\x00", "a": "\x01a\x00", "A.bc.": "\x01a\x02bc\x00", "\xff\xfe.x": "\x02\xff\xfe\x01x\x00",
	} {
		if got, err := NameOf(text); err != nil || got != want {
			t.Errorf("NameOf(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	long := strings.Repeat(strings.Repeat("a", 63)+".", 4)
	for _, text := range []string{"a..b", ".a", strings.Repeat("a", 64), long} {
		if got, err := NameOf(text); err == nil {
			t.Errorf("NameOf(%.20q) = %q, want an error", text, got)
		}
	}
	for _, c := range []struct {
		name, domain string
		want         bool
	}{
		{"a.b.c", "b.c", true}, {"b.c", "b.c", true}, {"ab.c", "b.c", false}, {"c", "b.c", false}, {"a", ".", true},
	} {
		if got := Must(c.name).Within(Must(c.domain)); got != c.want {
			t.Errorf("%s within %s = %t", c.name, c.domain, got)
		}
	}
	if got := Name("\x03a.b\x02\x00\xff\x00").String(); got != `a\.b.\000\255` {
		t.Errorf("String = %s", got)
	}
}

func TestQuery(t *testing.T) {
	m := new(dns.Msg).SetQuestion("wWw.Example.ORG.", dns.TypeAAAA)
	m.SetEdns0(4096, true)
	q, code, err := ParseQuery(packed(t, m))
	if err != nil || code != Success || q.Name.String() != "www.example.org" || q.Type != TypeAAAA || !q.DNSSEC {
		t.Fatalf("ParseQuery = %+v, %d, %v", q, code, err)
	}
	reply := unpacked(t, q.Code(NoName))
	if reply.Id != m.Id || reply.Rcode != dns.RcodeNameError || reply.Question[0] != m.Question[0] ||
		reply.IsEdns0() == nil || !reply.RecursionDesired || !reply.RecursionAvailable {
		t.Errorf("reply = %v", reply)
	}
	a := new(dns.Msg).SetQuestion("x.", dns.TypeA)
	q, _, _ = ParseQuery(packed(t, a))
	if reply := unpacked(t, q.Records(5, []byte{1, 2, 3, 4}, []byte{5, 6, 7, 8})); len(reply.Answer) != 2 ||
		reply.Answer[1].(*dns.A).A.String() != "5.6.7.8" || reply.IsEdns0() != nil {
		t.Errorf("reply = %v", reply)
	}
	if reply := unpacked(t, q.Fit(make([]byte, 513))); !reply.Truncated || reply.Question[0].Name != "x." {
		t.Errorf("a long reply is cut to %v", reply)
	}
	if p := bytes.Repeat([]byte{1}, 512); !bytes.Equal(q.Fit(p), p) {
		t.Error("a reply that fits is cut")
	}
	const head = "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00" // up to the count of additional records
	for name, c := range map[string]struct {
		p    []byte
		code int
		drop bool
	}{
		"short":        {[]byte("12345678901"), 0, true},
		"reply":        {packed(t, new(dns.Msg).SetReply(a)), 0, true},
		"update":       {packed(t, new(dns.Msg).SetUpdate("x.")), NotDone, false},
		"no question":  {make([]byte, 12), Format, false},
		"pointer":      {[]byte(head + "\x00\x00\xc0\x0c\x00\x01\x00\x01"), Format, false},
		"cut":          {packed(t, a)[:14], Format, false},
		"missing data": {[]byte(head + "\x00\x01\x01x\x00\x00\x01\x00\x01"), Format, false},
	} {
		if q, code, err := ParseQuery(c.p); code != c.code || (err != nil) != c.drop {
			t.Errorf("%s: %d, %v", name, code, err)
		} else if err == nil {
			unpacked(t, q.Code(code))
		}
	}
}

func TestReply(t *testing.T) {
	question := Question{Name: Must("www.example.org"), Type: TypeA, Class: ClassIN}
	sent := question.Ask(7, []byte{0b10101010}, true)
	asked := unpacked(t, sent.Bytes)
	if name := asked.Question[0].Name; strings.ToLower(name) != "www.example.org." || name == "www.example.org." {
		t.Fatalf("asked for %s", name)
	}
	client := new(dns.Msg).SetQuestion("WWW.example.org.", dns.TypeA)
	query, _, _ := ParseQuery(packed(t, client))
	chain := []string{"www.example.org. 60 CNAME a.example.net.", "a.example.net. 30 A 192.0.2.1"}
	soa := "example.org. 600 IN SOA ns. host. 1 2 3 4 120"
	for _, c := range []struct {
		name              string
		code              int
		answer, authority []string
		lifetime          time.Duration
		err               error
	}{
		{"answer", 0, chain, nil, 30 * time.Second, nil},
		{"no such name", dns.RcodeNameError, nil, []string{soa}, 120 * time.Second, nil},
		{"no such type", 0, chain[:1], []string{soa}, 120 * time.Second, nil},
		{"no SOA", dns.RcodeNameError, nil, nil, 0, nil},
		{"failure", dns.RcodeServerFailure, nil, []string{soa}, 0, nil},
		{"for ever", 0, []string{"www.example.org. 2147483647 A 192.0.2.1"}, nil, 24 * time.Hour, nil},
		{"poison", 0, append([]string{"www.bank.example. 60 A 6.6.6.6"}, chain...), nil, 0, ErrReply},
		{"loop", 0, []string{chain[0], "a.example.net. 60 CNAME www.example.org."}, nil, 0, ErrReply},
		{"itself", 0, []string{"www.example.org. 60 CNAME www.example.org."}, nil, 0, ErrReply},
		{"through a domain", 0, []string{"example.org. 60 DNAME example.com.",
			"www.example.org. 60 CNAME www.example.com.", "www.example.com. 60 A 192.0.2.9"}, nil, time.Minute, nil},
	} {
		m := new(dns.Msg).SetRcode(asked, c.code)
		m.Compress = true
		m.Answer, m.Ns = records(t, c.answer...), records(t, c.authority...)
		m.Extra = records(t, "other.example. 60 A 6.6.6.6")
		m.SetEdns0(1232, false)
		reply, err := sent.ParseReply(packed(t, m))
		if !errors.Is(err, c.err) || reply.Lifetime != c.lifetime && err == nil {
			t.Errorf("%s: lifetime %s, %v; want %s, %v", c.name, reply.Lifetime, err, c.lifetime, c.err)
		}
		if err != nil {
			continue
		}
		got := unpacked(t, reply.To(query, 10*time.Second, 0))
		if len(got.Answer) != len(c.answer) || len(got.Extra) != 0 || got.Rcode != c.code || got.Id != client.Id ||
			got.Question[0].Name != "WWW.example.org." {
			t.Errorf("%s: client gets %v", c.name, got)
		}
		for i, rr := range got.Answer {
			if left := m.Answer[i].Header().Ttl; rr.Header().Ttl != left-10 {
				t.Errorf("%s: lifetime %d of %d after 10 s", c.name, rr.Header().Ttl, left)
			}
		}
	}
}

// TestForged: only a message with the id, the question and the spelling of ours is an answer.
func TestForged(t *testing.T) {
	question := Question{Name: Must("www.example.org"), Type: TypeA, Class: ClassIN}
	sent := question.Ask(7, []byte{0x5a, 0xa5}, true)
	asked := unpacked(t, sent.Bytes)
	for name, c := range map[string]struct {
		change func(m *dns.Msg)
		want   error
	}{
		"as asked":        {func(*dns.Msg) {}, nil},
		"id":              {func(m *dns.Msg) { m.Id++ }, ErrOther},
		"a query":         {func(m *dns.Msg) { m.Response = false }, ErrOther},
		"name":            {func(m *dns.Msg) { m.Question[0].Name = "vww.example.org." }, ErrOther},
		"type":            {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }, ErrOther},
		"spelling":        {func(m *dns.Msg) { m.Question[0].Name = "www.example.org." }, ErrSpelling},
		"no question":     {func(m *dns.Msg) { m.Question = nil }, ErrOther},
		"only a failure":  {func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeFormatError }, ErrSpelling},
		"second question": {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, ErrOther},
	} {
		m := new(dns.Msg).SetReply(asked)
		m.Question = append([]dns.Question(nil), m.Question...)
		m.Answer = records(t, asked.Question[0].Name+" 60 A 192.0.2.1")
		c.change(m)
		if _, err := sent.ParseReply(packed(t, m)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	id, spelled := 0, 0
	for guess := range 1 << 16 {
		m := new(dns.Msg).SetReply(asked)
		m.Id = uint16(guess)
		p := packed(t, m)
		if _, err := sent.ParseReply(p); err == nil {
			id++
		}
		copy(p[headerSize:], "\x03www\x07example\x03org")
		if _, err := sent.ParseReply(p); err == nil {
			spelled++
		}
	}
	if id != 1 || spelled != 0 {
		t.Errorf("of all ids %d were accepted with our spelling and %d without, want 1 and 0", id, spelled)
	}
}

// FuzzReply: no message makes us panic, and what a client gets can be read by another implementation.
func FuzzReply(f *testing.F) {
	question := Question{Name: Must("www.example.org"), Type: TypeA, Class: ClassIN}
	sent := question.Ask(7, nil, true)
	client, _, _ := ParseQuery(sent.Bytes)
	m := new(dns.Msg).SetReply(unpacked(f, sent.Bytes))
	m.Answer = records(f, "www.example.org. 60 CNAME a.example.net.", "a.example.net. 30 A 192.0.2.1")
	m.Compress = true
	f.Add(packed(f, m))
	m.Ns = records(f, "example.org. 600 IN SOA ns.example.org. host.example.org. 1 2 3 4 5")
	f.Add(packed(f, m))
	f.Add(append(packed(f, m)[:29+16], "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x01\x00\x02\xc0\x2d"...))
	f.Fuzz(func(t *testing.T, p []byte) {
		reply, err := sent.ParseReply(p)
		if err != nil || reply.Truncated {
			return
		}
		if reply.Lifetime < 0 || reply.Lifetime > maxLifetime {
			t.Fatalf("lifetime %s", reply.Lifetime)
		}
		out := reply.To(client, time.Second, time.Second)
		if counts(out)[0] != 1 || counts(out)[3] != 1 {
			t.Fatalf("reply has %v", counts(out))
		}
		again, err := sent.ParseReply(out)
		if err != nil || again.Code != reply.Code {
			t.Fatalf("our own reply is refused: %v", err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	f.Add(packed(f, m))
	m.SetEdns0(4096, true)
	f.Add(packed(f, m))
	f.Fuzz(func(t *testing.T, p []byte) {
		q, code, err := ParseQuery(p)
		if err != nil {
			return
		}
		unpacked(t, q.Code(code))
		if code == Success && len(q.asked) != len(q.Name)+4 {
			t.Fatalf("question of %d bytes for the name %q", len(q.asked), q.Name)
		}
	})
}
