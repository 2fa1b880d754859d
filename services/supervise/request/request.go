// Package request decides when a request of a person is carried out: to start, stop or restart a service. It changes no
// service and knows them only as the caller describes them. Read List first.
package request

import (
	"fmt"
	"slices"

	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// Target is a service of which something was asked.
type Target struct {
	Service *lifecycle.Service
	Pending bool          // its conditions are being checked
	Gone    bool          // it is not coming, or something that it needs is not
	Reason  func() string // says why it is not up
}

// Request waits for what was asked of one service.
type Request struct {
	id      int // of the service
	name    string
	event   lifecycle.Event
	first   int  // the life that counts, and all later ones
	changed bool // something has changed since the latest judgement
	reply   chan error
}

// New returns the Request of event e, which must be Want, Stop or Restart, and be applied to svc afterwards. id is a
// number that no other service ever has.
func New(e lifecycle.Event, id int, sp *spec.Spec, svc *lifecycle.Service) *Request {
	r := &Request{id: id, name: sp.Name, event: e, first: svc.Lives + 1, changed: true, reply: make(chan error, 1)}
	running := e == lifecycle.Want && (svc.Phase == lifecycle.Up || svc.Phase == lifecycle.Starting)
	waits := (svc.Phase == lifecycle.Down || svc.Phase == lifecycle.Skipped) && lifecycle.OnDemand(sp)
	if running || waits {
		r.first-- // the life that is there counts, or none if it will wait for its demand
	}
	return r
}

// Done delivers the answer once: nil if what was asked for is done, else why it will not be.
func (r *Request) Done() <-chan error { return r.reply }

// judge reports whether what was asked for is done, or returns why it will not be; neither if that is still open.
func (r *Request) judge(t Target) (done bool, err error) {
	svc := t.Service
	if r.event == lifecycle.Stop {
		return !svc.Phase.Alive(), nil
	}
	switch counts := svc.Lives >= r.first; svc.Phase {
	case lifecycle.Up, lifecycle.Done:
		done = counts
	case lifecycle.Armed:
		done = counts && !t.Pending
	}
	if done {
		return true, nil
	}
	failed := svc.Phase == lifecycle.Failed || svc.Phase == lifecycle.Skipped ||
		svc.Phase == lifecycle.Backoff && svc.Lives >= r.first
	if failed || !svc.Wanted || t.Gone && !svc.Phase.Alive() {
		return false, fmt.Errorf("service %s is %s: %s", r.name, svc.Phase, t.Reason())
	}
	return false, nil
}

// List is the requests that have no answer yet. It belongs to the supervisor's loop.
type List struct{ waiting []*Request }

// Add appends r.
func (l *List) Add(r *Request) { l.waiting = append(l.waiting, r) }

// Remove removes r, whose answer nobody waits for any more.
func (l *List) Remove(r *Request) {
	l.waiting = slices.DeleteFunc(l.waiting, func(x *Request) bool { return x == r })
}

// Len counts the requests.
func (l *List) Len() int { return len(l.waiting) }

// Touch makes the next Answer judge the requests of service id again, TouchAll all of them.
func (l *List) Touch(id int) {
	for _, r := range l.waiting {
		r.changed = r.changed || r.id == id
	}
}

// TouchAll is Touch for all services.
func (l *List) TouchAll() {
	for _, r := range l.waiting {
		r.changed = true
	}
}

// Answer answers the requests whose answer is known. look describes a service.
func (l *List) Answer(look func(id int) Target) {
	l.waiting = slices.DeleteFunc(l.waiting, func(r *Request) bool {
		if !r.changed {
			return false
		}
		r.changed = false
		done, err := r.judge(look(r.id))
		if done || err != nil {
			r.reply <- err // capacity 1, sent once
		}
		return done || err != nil
	})
}

// Forget answers the requests of service id, whose file was removed and which has stopped.
func (l *List) Forget(id int) {
	l.waiting = slices.DeleteFunc(l.waiting, func(r *Request) bool {
		if r.id == id {
			r.reply <- fmt.Errorf("service %s is gone: its file was removed", r.name) // capacity 1, sent once
		}
		return r.id == id
	})
}
