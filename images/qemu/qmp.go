package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Monitor uses QEMU's machine protocol (QMP): one command at a time, and events.
type Monitor struct {
	conn    io.ReadWriteCloser
	command sync.Mutex // held while a command waits for its answer

	answers chan message // closed by read when the connection ends
	mu      sync.Mutex   // guards events and changed
	events  []Event
	changed chan struct{} // closed and replaced whenever an event arrives or the connection ends
	ended   bool
}

// An Event is what QEMU reports by itself, such as RESET, SHUTDOWN, POWERDOWN or WATCHDOG.
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

type message struct {
	Event
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class       string `json:"class"`
		Description string `json:"desc"`
	} `json:"error"`
}

// mostEvents limits the events that a Monitor keeps; a guest that resets in a loop must not fill our memory.
const mostEvents = 1000

// newMonitor waits for the greeting and ends the negotiation mode. It owns conn afterwards.
func newMonitor(ctx context.Context, conn io.ReadWriteCloser) (*Monitor, error) {
	m := &Monitor{conn: conn, answers: make(chan message, 1), changed: make(chan struct{})}
	go m.read() // ends when conn is closed by either side; Close waits for it through answers
	select {
	case greeting, ok := <-m.answers:
		if !ok || greeting.Greeting == nil {
			return nil, errors.Join(errors.New("greet monitor: no greeting"), m.Close())
		}
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("greet monitor: %w", context.Cause(ctx)), m.Close())
	}
	if err := m.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Monitor) read() {
	defer close(m.answers)
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var got message
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			break // not a monitor: nothing after this can be trusted
		}
		if got.Name == "" {
			m.answers <- got
			continue
		}
		m.mu.Lock()
		m.events = append(m.events, got.Event)
		m.events = m.events[max(0, len(m.events)-mostEvents):]
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	close(m.changed)
}

// Do runs one command and decodes its answer into result, unless that is nil.
func (m *Monitor) Do(ctx context.Context, command string, arguments, result any) error {
	m.command.Lock()
	defer m.command.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode %s: %w", command, err)
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("ask QEMU to %s: %w", command, err)
	}
	select {
	case got, ok := <-m.answers:
		switch {
		case !ok:
			return fmt.Errorf("ask QEMU to %s: %w", command, io.ErrUnexpectedEOF)
		case got.Error != nil:
			return fmt.Errorf("ask QEMU to %s: %s", command, got.Error.Description)
		case result == nil:
			return nil
		}
		if err := json.Unmarshal(got.Return, result); err != nil {
			return fmt.Errorf("decode answer to %s: %w", command, err)
		}
		return nil
	case <-ctx.Done():
		// The answer may still come and would be read as that of the next command.
		return errors.Join(fmt.Errorf("ask QEMU to %s: %w", command, context.Cause(ctx)), m.Close())
	}
}

// Status returns the state of the guest, such as running or shutdown.
func (m *Monitor) Status(ctx context.Context) (string, error) {
	var got struct{ Status string }
	err := m.Do(ctx, "query-status", nil, &got)
	return got.Status, err
}

// Instructions returns how many instructions the guest has executed; Shift of its options must be set. While the guest
// waits for a disk, a link or a timer, the number does not change.
func (m *Monitor) Instructions(ctx context.Context) (int64, error) {
	var got struct{ Icount int64 }
	if err := m.Do(ctx, "query-replay", nil, &got); err != nil {
		return 0, err
	}
	if got.Icount == 0 {
		return 0, errors.New("count instructions: QEMU counts none; Shift is not set, or the guest has not begun")
	}
	return got.Icount, nil
}

// Quit ends QEMU at once, as a power cut would, after the host has written its buffers.
func (m *Monitor) Quit(ctx context.Context) error { return m.Do(ctx, "quit", nil, nil) }

// PowerDown presses the power button.
func (m *Monitor) PowerDown(ctx context.Context) error {
	return m.Do(ctx, "system_powerdown", nil, nil)
}

// Reset presses the reset button.
func (m *Monitor) Reset(ctx context.Context) error { return m.Do(ctx, "system_reset", nil, nil) }

// Events returns the events so far, oldest first.
func (m *Monitor) Events() []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Event(nil), m.events...)
}

// WaitEvent returns the first event of that name from number after on; the error wraps io.EOF if QEMU ends before.
// Events are counted from 0, as the length of Events.
func (m *Monitor) WaitEvent(ctx context.Context, after int, name string) (Event, error) {
	for {
		m.mu.Lock()
		events, changed, ended := m.events, m.changed, m.ended
		m.mu.Unlock()
		for _, e := range events[min(after, len(events)):] {
			if e.Name == name {
				return e, nil
			}
		}
		if ended {
			return Event{}, fmt.Errorf("wait for event %s: %w", name, io.EOF)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("wait for event %s: %w", name, context.Cause(ctx))
		}
	}
}

// Close ends the connection; the guest continues.
func (m *Monitor) Close() error {
	err := m.conn.Close()
	for range m.answers { // until read has ended
	}
	return err
}
