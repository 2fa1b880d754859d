// Package modembus is the message bus that ModemManager connects to, with a single peer: the process that runs it. It
// answers the calls that ModemManager makes to a bus daemon and to PolicyKit, so that a device needs neither.
//
// All input from ModemManager is untrusted: it contains what modems and networks have sent. Read first: Conn.
package modembus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	busName    = "org.freedesktop.DBus"
	policyName = "org.freedesktop.PolicyKit1"
	own        = ":1.1" // our name on the bus
	theirs     = ":1.2"

	// limit is the most bytes of one message. A modem with all its properties has some 20 kB.
	limit = 1 << 20
)

// Error is a refusal of ModemManager.
type Error struct {
	Name string // such as org.freedesktop.ModemManager1.Error.MobileEquipment.SimPin
	Text string // in ModemManager's words; it may hold what a modem said
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Text, e.Name) }

// Conn is the connection of one ModemManager. Its methods may be called from several goroutines.
type Conn struct {
	changed func()
	conn    net.Conn

	mu     sync.Mutex // of the rest, and of writing
	serial uint32
	calls  map[uint32]chan *dbus.Message
	named  chan struct{} // closed when ModemManager has taken its name
	taken  bool
}

// New returns the bus for an accepted connection. changed is called for each signal, and when ModemManager is ready; it
// must not block.
func New(conn net.Conn, changed func()) *Conn {
	return &Conn{changed: changed, conn: conn, calls: map[uint32]chan *dbus.Message{}, named: make(chan struct{})}
}

// Named is closed when ModemManager can be asked.
func (c *Conn) Named() <-chan struct{} { return c.named }

// Serve reads what ModemManager sends until the connection ends, or ctx. It always returns an error.
func (c *Conn) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	defer c.abandon()
	defer c.conn.Close() // nothing more is written
	r := bufio.NewReaderSize(c.conn, 4096)
	if err := greet(r, c.conn); err != nil {
		return fmt.Errorf("greet ModemManager: %w", err)
	}
	for {
		m, err := read(r)
		if err != nil {
			return fmt.Errorf("read from ModemManager: %w", err)
		}
		if err := c.handle(m); err != nil {
			return fmt.Errorf("write to ModemManager: %w", err)
		}
	}
}

// read reads one message of a limited size.
func read(r *bufio.Reader) (m *dbus.Message, err error) {
	head, err := r.Peek(16)
	if err != nil {
		return nil, err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[0] == 'B' {
		order = binary.BigEndian
	}
	body, fields := int64(order.Uint32(head[4:])), int64(order.Uint32(head[12:]))
	if body > limit || fields > limit {
		return nil, fmt.Errorf("message of %d bytes, more than %d", body+fields, limit)
	}
	defer func() { // the module panics on some malformed values
		if fault := recover(); fault != nil {
			m, err = nil, fmt.Errorf("message is malformed: %v", fault)
		}
	}()
	return dbus.DecodeMessage(io.LimitReader(r, 16+(fields+7)/8*8+body))
}

// abandon ends all calls that wait for a reply.
func (c *Conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, reply := range c.calls {
		close(reply)
	}
	c.calls = nil
}

// handle does with a message what a bus does.
func (c *Conn) handle(m *dbus.Message) error {
	switch m.Type {
	case dbus.TypeSignal:
		c.changed()
	case dbus.TypeMethodReply, dbus.TypeError:
		c.deliver(m)
	case dbus.TypeMethodCall:
		if text(m, dbus.FieldMember) == "RequestName" {
			defer c.ready()
		}
		return c.reply(m, answer(m))
	}
	return nil
}

func (c *Conn) ready() {
	c.mu.Lock()
	first := !c.taken
	c.taken = true
	c.mu.Unlock()
	if first {
		close(c.named)
		c.changed()
	}
}

func (c *Conn) deliver(m *dbus.Message) {
	serial, _ := m.Headers[dbus.FieldReplySerial].Value().(uint32)
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply, waiting := c.calls[serial]; waiting {
		delete(c.calls, serial)
		reply <- m // it has room for one
	}
}

// text returns a field of a header as text.
func text(m *dbus.Message, f dbus.HeaderField) string {
	switch v := m.Headers[f].Value().(type) {
	case string:
		return v
	case dbus.ObjectPath:
		return string(v)
	}
	return ""
}

// reply answers a call, unless nobody waits for an answer.
func (c *Conn) reply(to, m *dbus.Message) error {
	if to.Flags&dbus.FlagNoReplyExpected != 0 {
		return nil
	}
	m.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(to.Serial())
	m.Headers[dbus.FieldSender] = dbus.MakeVariant(cmpSender(to))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.send(m)
	return err
}

// cmpSender returns who answers a call: the bus itself, or we as PolicyKit.
func cmpSender(to *dbus.Message) string {
	if d := text(to, dbus.FieldDestination); d == busName || d == "" {
		return busName
	}
	return own
}

// send writes a message under its own number. The caller holds the lock.
func (c *Conn) send(m *dbus.Message) (uint32, error) {
	m.Headers[dbus.FieldDestination] = dbus.MakeVariant(theirs)
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		return 0, err
	}
	c.serial++
	binary.LittleEndian.PutUint32(b.Bytes()[8:], c.serial) // the module leaves it at 0
	_, err := c.conn.Write(b.Bytes())
	return c.serial, err
}

// Call calls a method of ModemManager and returns what it answers. A refusal is an *Error.
func (c *Conn) Call(ctx context.Context, path dbus.ObjectPath, iface, method string, args ...any) ([]any, error) {
	m := &dbus.Message{Type: dbus.TypeMethodCall, Body: args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(method), dbus.FieldSender: dbus.MakeVariant(own)}}
	serial, reply, err := c.begin(m)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	select {
	case r, open := <-reply:
		switch {
		case !open:
			return nil, fmt.Errorf("call %s: %w", method, io.ErrUnexpectedEOF)
		case r.Type == dbus.TypeError:
			return nil, refusal(r)
		}
		return r.Body, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.calls, serial)
		c.mu.Unlock()
		return nil, fmt.Errorf("call %s: %w", method, context.Cause(ctx))
	}
}

func (c *Conn) begin(m *dbus.Message) (uint32, <-chan *dbus.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return 0, nil, errors.New("ModemManager has ended")
	}
	serial, err := c.send(m)
	reply := make(chan *dbus.Message, 1)
	if err == nil {
		c.calls[serial] = reply
	}
	return serial, reply, err
}

func refusal(m *dbus.Message) error {
	e := &Error{Name: text(m, dbus.FieldErrorName)}
	if len(m.Body) > 0 {
		e.Text, _ = m.Body[0].(string)
	}
	return e
}
