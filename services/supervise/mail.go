package supervise

import (
	"sync"

	"resinos/services/proc"
)

// mailbox takes what the reaper says without ever making it wait. It holds at most one exit per
// living process and one mark for all orphans.
type mailbox struct {
	wake chan struct{} // holds one token while something lies there

	mu       sync.Mutex // guards the rest
	exits    []death
	orphaned bool
}

// death is the end of one process of a service: its main one, or the one of a connection.
type death struct {
	life   *life
	status proc.Status
	client bool
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) exit(d death) {
	m.mu.Lock()
	m.exits = append(m.exits, d)
	m.mu.Unlock()
	m.ring()
}

func (m *mailbox) orphan() {
	m.mu.Lock()
	m.orphaned = true
	m.mu.Unlock()
	m.ring()
}

func (m *mailbox) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() ([]death, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	exits, orphaned := m.exits, m.orphaned
	m.exits, m.orphaned = nil, false
	return exits, orphaned
}
