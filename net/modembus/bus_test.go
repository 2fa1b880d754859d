package modembus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"resinos/mounts/testenv"
)

// peer is the other side of a bus: what ModemManager does.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func connect(t *testing.T) (*Conn, peer, chan struct{}) {
	t.Helper()
	ours, theirs := net.Pipe()
	changed := make(chan struct{}, 16)
	c := New(ours, func() { changed <- struct{}{} })
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(t.Context()) }()
	t.Cleanup(func() {
		theirs.Close()
		if err := testenv.Receive(t, "the bus", (<-chan error)(ended)); err == nil {
			t.Error("Serve returned nil")
		}
	})
	return c, peer{t, theirs, bufio.NewReader(theirs)}, changed
}

func (p peer) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p peer) line() string {
	p.t.Helper()
	text, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// greet greets as GLib 2.84 does.
func (p peer) greet() {
	p.t.Helper()
	p.write("\x00AUTH\r\n")
	for _, step := range []struct{ want, next string }{
		{"REJECTED EXTERNAL", "AUTH EXTERNAL\r\n"}, {"DATA", "DATA\r\n"},
		{"OK", "NEGOTIATE_UNIX_FD\r\n"}, {"ERROR", "BEGIN\r\n"},
	} {
		if got := p.line(); !strings.HasPrefix(got, step.want) {
			p.t.Fatalf("the bus answers %q, want %q", got, step.want)
		}
		p.write(step.next)
	}
}

func encode(t testing.TB, m *dbus.Message, serial uint32) []byte {
	t.Helper()
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
	return b.Bytes()
}

func call(destination, iface, member string, args ...any) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeMethodCall, Body: args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(destination), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/"))}}
}

// ask sends a call and returns the answer.
func (p peer) ask(m *dbus.Message) *dbus.Message {
	p.t.Helper()
	p.write(string(encode(p.t, m, 7)))
	return p.next()
}

func (p peer) next() *dbus.Message {
	p.t.Helper()
	m, err := dbus.DecodeMessage(p.r)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

func TestWhatABusAnswers(t *testing.T) {
	c, p, changed := connect(t)
	p.greet()
	for _, test := range []struct {
		to, member string
		args       []any
		want       any
	}{
		{busName, "Hello", nil, theirs},
		{busName, "GetNameOwner", []any{policyName}, own},
		{busName, "GetNameOwner", []any{"org.freedesktop.login1"}, "org.freedesktop.login1 is not on this bus"},
		{busName, "NameHasOwner", []any{7}, false},
		{busName, "StartServiceByName", []any{policyName, uint32(0)}, uint32(2)},
		{"org.freedesktop.login1", "Inhibit", nil, "org.freedesktop.login1 is not on this bus"},
		{busName, "RequestName", []any{"org.freedesktop.ModemManager1", uint32(3)}, uint32(1)},
	} {
		m := p.ask(call(test.to, test.to, test.member, test.args...))
		if len(m.Body) != 1 || m.Body[0] != test.want {
			t.Errorf("%s of %s = %v, want %v", test.member, test.to, m.Body, test.want)
		}
		if serial := m.Headers[dbus.FieldReplySerial].Value(); serial != uint32(7) {
			t.Errorf("%s answers call %v, want 7", test.member, serial)
		}
	}
	testenv.Receive(t, "the bus", c.Named())
	testenv.Receive(t, "the bus", (<-chan struct{})(changed))
	m := p.ask(call(policyName, "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization"))
	if got := m.Headers[dbus.FieldSignature].Value().(dbus.Signature).String(); got != "(bba{ss})" {
		t.Errorf("CheckAuthorization answers %s", got)
	}
	if got := m.Body[0].([]any)[0]; got != true {
		t.Errorf("CheckAuthorization answers %v", m.Body)
	}
}

func TestCall(t *testing.T) {
	c, p, _ := connect(t)
	p.greet()
	type answer struct {
		body []any
		err  error
	}
	ask := func(ctx context.Context) <-chan answer {
		got := make(chan answer, 1)
		go func() {
			body, err := c.Call(ctx, "/m", "org.example", "Do", "x")
			got <- answer{body, err}
		}()
		return got
	}
	got := ask(t.Context())
	m := p.next()
	if m.Serial() == 0 || text(m, dbus.FieldSender) != own || m.Body[0] != "x" {
		t.Errorf("the call is %v", m)
	}
	reply := result("y")
	reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(m.Serial())
	p.write(string(encode(t, reply, 9)))
	if a := testenv.Receive(t, "the bus", got); a.err != nil || a.body[0] != "y" {
		t.Errorf("Call = %v, %v", a.body, a.err)
	}

	got = ask(t.Context())
	refused := fault("Failed", "no")
	refused.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(p.next().Serial())
	p.write(string(encode(t, refused, 10)))
	a := testenv.Receive(t, "the bus", got)
	if e, is := errors.AsType[*Error](a.err); !is || e.Text != "no" || !strings.HasSuffix(e.Name, ".Failed") {
		t.Errorf("Call = %v", a.err)
	}

	got = ask(t.Context())
	p.next()
	p.conn.Close() // ModemManager dies
	if a := testenv.Receive(t, "the bus", got); a.err == nil {
		t.Error("Call succeeded although ModemManager died")
	}
	if _, err := c.Call(t.Context(), "/m", "org.example", "Do"); err == nil {
		t.Error("Call succeeded although ModemManager is dead")
	}
}

// A length that is a lie must not become memory.
func TestLongMessageIsRefused(t *testing.T) {
	_, p, _ := connect(t)
	p.greet()
	b := encode(t, call(busName, busName, "Hello"), 1)
	binary.LittleEndian.PutUint32(b[4:], 100<<20)
	_, _ = p.conn.Write(b) // the bus may be gone before the end of it
	if _, err := p.r.ReadByte(); err == nil {
		t.Error("the bus answers a message of 100 MB")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(encode(f, call(busName, busName, "Hello"), 1))
	f.Add(encode(f, call(policyName, "a.b", "CheckAuthorization",
		map[string]dbus.Variant{"a": dbus.MakeVariant([]any{})}), 2))
	f.Add([]byte("l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := read(bufio.NewReader(bytes.NewReader(b)))
		if err != nil || m.Type != dbus.TypeMethodCall {
			return
		}
		reply := answer(m)
		if len(reply.Body) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(reply.Body...))
		}
		reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(m.Serial())
		if err := reply.IsValid(); err != nil {
			t.Errorf("the answer %v is not valid: %v", reply.Body, err)
		}
	})
}
