package dnswire

import (
	"bytes"
	"errors"
	"reflect"
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
		"": ".", ".": ".", "a": "a.", "A.bc.": "a.bc.", "\xff\xfe.x": "\xff\xfe.x.",
	} {
		if got, err := NameOf(text); err != nil || got != want {
			t.Errorf("NameOf(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if got := string(Must("A.bc").Wire()); got != "\x01a\x02bc\x00" || string(Must("").Wire()) != "\x00" {
		t.Errorf("Wire = %q", got)
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
	if n := Must("a.b."); n.String() != "a.b" || n.Labels() != 2 || n.First() != "a" {
		t.Errorf("%q has %d labels, %q first", n, n.Labels(), n.First())
	}
	if n := Must("."); n.String() != "." || n.Labels() != 0 || n.First() != "" {
		t.Errorf("%q has %d labels, %q first", n, n.Labels(), n.First())
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
		"dot in label": {packed(t, new(dns.Msg).SetQuestion(`a\.b.`, dns.TypeA)), Format, false},
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

// TestPassed: what clients get of records whose types nobody here knows, and of names that are spelt as we asked.
func TestPassed(t *testing.T) {
	question := Question{Name: Must("www.example.org"), Type: TypeANY, Class: ClassIN}
	sent := question.Ask(7, []byte{0b01010101}, true)
	asked := unpacked(t, sent.Bytes)
	owner := asked.Question[0].Name
	m := new(dns.Msg).SetReply(asked)
	m.Compress = true
	m.Answer = records(t, owner+` 60 TYPE65280 \# 4 c00cff00`, owner+` 60 HTTPS 1 Svc.Example.net. alpn=h2`,
		owner+` 60 TXT "A" ""`, owner+" 60 MX 10 Mail."+owner[4:], owner+" 60 SRV 1 2 3 Host."+owner,
		owner+" 4294967295 A 192.0.2.1", owner+" 60 NSEC b.example.org. A RRSIG")
	m.Ns = records(t, `example.org. 600 SOA ns.example.org. first\.last.example.org. 1 2 3 4 5`,
		`a\.b.example.org. 600 TXT "left out"`, "example.org. 600 NS ns.example.org.")
	reply, err := sent.ParseReply(packed(t, m))
	if err != nil {
		t.Fatal(err)
	}
	client, _, _ := ParseQuery(packed(t, new(dns.Msg).SetQuestion("WWW.Example.org.", dns.TypeANY)))
	got := unpacked(t, reply.To(client, 0, 0))
	want := records(t, `WWW.Example.org. 60 TYPE65280 \# 4 c00cff00`,
		`WWW.Example.org. 60 HTTPS 1 Svc.Example.net. alpn=h2`, `WWW.Example.org. 60 TXT "A" ""`,
		"WWW.Example.org. 60 MX 10 Mail.Example.org.",
		"WWW.Example.org. 60 SRV 1 2 3 Host.WWW.Example.org.", "WWW.Example.org. 0 A 192.0.2.1",
		"WWW.Example.org. 60 NSEC b.example.org. A RRSIG")
	want = append(want, records(t, "example.org. 600 SOA . . 1 2 3 4 5", "example.org. 600 NS ns.example.org.")...)
	all := append(got.Answer, got.Ns...)
	for i := range max(len(all), len(want)) {
		if i >= len(all) || i >= len(want) || all[i].String() != want[i].String() {
			t.Fatalf("client gets\n%v, want\n%v", all, want)
		}
	}
}

// TestHostile: bytes that no server sends are refused, or do not reach the client.
func TestHostile(t *testing.T) {
	question := Question{Name: Must("x"), Type: TypeA, Class: ClassIN}
	sent := question.Ask(7, nil, false)
	client, _, _ := ParseQuery(sent.Bytes)
	message := func(answers uint16, records string) []byte {
		p := append(bytes.Clone(sent.Bytes), records...)
		p[2] |= 1 << 7
		p[6], p[7] = byte(answers>>8), byte(answers)
		return p
	}
	const a = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04"
	cname := func(data string) string {
		return "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00" + string([]byte{byte(len(data))}) + data
	}
	srv := "\xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x3c\x00\x08\x00\x00\x00\x00\x00\x00\xc0"
	long := strings.Repeat("\x3f"+strings.Repeat("a", 63), 3) + "\x00"
	for name, p := range map[string][]byte{
		"more answers than there are":     message(2, a),
		"data that leaves the message":    message(1, a[:len(a)-1]),
		"a name that points to itself":    message(1, "\xc0\x13"+a[2:]),
		"data that points to itself":      message(1, cname("\xc0\x1f")),
		"two pointers in a circle":        message(1, cname("\xc0\x21\xc0\x1f")),
		"a pointer beyond the message":    message(1, cname("\xff\xff")),
		"a label of a reserved kind":      message(1, cname("\x80x\x00")),
		"a dot within a label":            message(1, cname("\x03a.b\x00")),
		"a compressed type of 1987":       message(1, strings.Replace(a, "\x00\x01", "\x00\x08", 1)),
		"EDNS among the answers":          message(1, "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"),
		"too many records":                message(2000, strings.Repeat(a, 2000)),
		"names that are long if expanded": message(401, cname(long)+strings.Repeat(srv+"\x1f", 400)),
	} {
		if _, err := sent.ParseReply(p); !errors.Is(err, ErrReply) {
			t.Errorf("%s: %v, want %v", name, err, ErrReply)
		}
	}
	reply, err := sent.ParseReply(message(1, a+"garbage"))
	if err != nil {
		t.Fatal(err)
	}
	if p := reply.To(client, 0, 0); bytes.Contains(p, []byte("garbage")) || len(unpacked(t, p).Answer) != 1 {
		t.Errorf("what is behind the records reaches the client: %x", p)
	}
}

// TestMessage: names that dnsmessage refuses hide nothing else of a message.
func TestMessage(t *testing.T) {
	m := new(dns.Msg).SetQuestion(`A\.b._ipp._tcp.local.`, dns.TypeSRV)
	m.Compress = true
	m.Question = append(m.Question, dns.Question{Name: "Device.local.", Qtype: dns.TypeA, Qclass: 1<<15 | 1})
	m.Answer = records(t, `_ipp._tcp.local. 60 PTR A\.b._ipp._tcp.local.`, `A\.b._ipp._tcp.local. 60 TXT "x"`,
		"_ssh._tcp.local. 60 PTR Device._ssh._tcp.local.")
	m.Extra = records(t, "device._ssh._tcp.local. 4294967295 SRV 0 0 22 Device.local.")
	got, err := ParseMessage(packed(t, m))
	if err != nil {
		t.Fatal(err)
	}
	want := Message{ID: m.Id, Questions: []Question{{Name: Must("device.local"), Type: TypeA, Class: 1<<15 | 1}},
		Answer: []Record{{Must("_ssh._tcp.local"), TypePTR, ClassIN, 60, Must("device._ssh._tcp.local").Wire()}},
		Further: []Record{{Must("device._ssh._tcp.local"), TypeSRV, ClassIN, 0,
			append([]byte{0, 0, 0, 0, 0, 22}, Must("device.local").Wire()...)}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("message is\n%+v, want\n%+v", got, want)
	}
	if again, err := ParseMessage(got.Pack()); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("packed and read: %+v, %v", again, err)
	}
	for name, p := range map[string][]byte{"short": make([]byte, 11), "cut": packed(t, m)[:100]} {
		if _, err := ParseMessage(p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzReply: no message makes us panic, and what a client gets is valid.
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
		if got, err := ParseMessage(out); err != nil || len(got.Questions) != 1 || len(got.Further) != 1 {
			t.Fatalf("reply is %+v, %v", got, err)
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
		if code == Success && (len(q.asked) != 1 || nameOf(q.asked[0].Name) != q.Name) {
			t.Fatalf("question %v for the name %q", q.asked, q.Name)
		}
	})
}
