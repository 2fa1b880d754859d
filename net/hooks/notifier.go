package hooks

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"resinos/net/netstate"
)

// mostWaiting is how many events may wait for scripts that are slow; further ones are dropped.
const mostWaiting = 128

// Notifier finds out what scripts must be told, and passes it on. It costs no process while there are no scripts.
type Notifier struct {
	Dir  string                                   // of the scripts
	File string                                   // in /run: what scripts were told last, for the next life
	Send func(ctx context.Context, e Event) error // passes an event to the process that runs scripts
	Log  *slog.Logger

	mu      sync.Mutex // guards what follows
	state   netstate.State
	known   bool
	waiting []Event
	changed chan struct{}
}

// sendTime is how long the process that runs scripts may take to accept an event; PID 1 may have to start it.
const sendTime = time.Minute

// Follow takes what netd has configured. It does not block, but for one small file in RAM.
func (n *Notifier) Follow(s netstate.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.known {
		n.known = true
		if text, err := os.ReadFile(n.File); err == nil {
			_ = json.Unmarshal(text, &n.state) // a damaged file is none: scripts are told everything again
		}
	}
	for _, e := range Events(n.state, s) {
		if len(n.waiting) >= mostWaiting {
			n.Log.Warn("hooks not run", "reason", "too many events wait for them", "action", string(e.Action))
			continue
		}
		n.waiting = append(n.waiting, e)
	}
	n.state = s
	n.save()
	select {
	case n.ready() <- struct{}{}:
	default: // the last change has not been seen yet
	}
}

// ready is made when it is needed first. The caller holds mu.
func (n *Notifier) ready() chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{}, 1)
	}
	return n.changed
}

// save writes the state for the next life. The caller holds mu.
func (n *Notifier) save() {
	text, err := json.Marshal(n.state)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(n.File), 0o755)
	}
	if err == nil {
		err = os.WriteFile(n.File+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(n.File+".new", n.File)
	}
	if err != nil {
		n.Log.Warn("state for hooks not kept", "error", err)
	}
}

// Run passes events on until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	n.mu.Lock()
	ready := n.ready()
	n.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ready:
		}
		n.mu.Lock()
		events := n.waiting
		n.waiting = nil
		if len(events) > 0 && !Any(n.Dir) {
			events = nil
		}
		n.mu.Unlock()
		for _, e := range events {
			if err := n.send(ctx, e); err != nil && ctx.Err() == nil {
				n.Log.Warn("hooks not run", "action", string(e.Action), "link", e.Link.Name, "error", err)
			}
		}
	}
}

func (n *Notifier) send(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return n.Send(ctx, e)
}
