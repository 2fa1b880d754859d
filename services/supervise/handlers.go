package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/control"
	"resinos/services/spec"
)

// ServiceStatus is one service as the status operation shows it. Moments are seconds since the
// kernel started.
type ServiceStatus struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	PID         int      `json:"pid"`
	Since       float64  `json:"since"`    // of the state
	Restarts    int      `json:"restarts"` // starts after the first
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type"`
	Reason      string   `json:"reason,omitempty"` // why it is not up
	Text        string   `json:"text,omitempty"`   // what it says of itself (STATUS=)
	LastExit    string   `json:"last_exit,omitempty"`
	RetryIn     float64  `json:"retry_in,omitempty"` // seconds until the next try, in state backoff
	Needs       []string `json:"needs,omitempty"`
	Wants       []string `json:"wants,omitempty"`
	After       []string `json:"after,omitempty"`
	Conflicts   []string `json:"conflicts,omitempty"`

	Masked   bool     `json:"masked,omitempty"`
	Wanted   bool     `json:"wanted"`              // somebody asks for it
	Began    float64  `json:"began,omitempty"`     // of the first life: its program was started …
	Ready    float64  `json:"ready,omitempty"`     // … and it was up
	Demand   []string `json:"demand,omitempty"`    // what starts it: listen tcp::80, every 1h0m0s, watch /etc/x
	NextIn   float64  `json:"next_in,omitempty"`   // seconds until its timer starts it, in state armed
	Clients  int      `json:"clients,omitempty"`   // connections being served, with listen-each
	Stored   int      `json:"stored,omitempty"`    // descriptors it left with us
	Health   string   `json:"health,omitempty"`    // ok, or how often it failed in a row
	Failures int      `json:"failures,omitempty"`  // lives lost in a row without a stable one
	Changed  bool     `json:"changed,omitempty"`   // its file has changed since it was started
	Reloads  bool     `json:"reloads,omitempty"`   // it can be reloaded
	Loading  bool     `json:"reloading,omitempty"` // it said RELOADING=1 and not yet READY=1
}

// Shown is one service as the show operation tells it: all that its files say, and all that runs.
type Shown struct {
	Status ServiceStatus `json:"status"`
	Spec   spec.Spec     `json:"spec"`
}

// Rescanned is what the rescan operation found.
type Rescanned struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"` // stopped, then forgotten
	Changed []string `json:"changed,omitempty"` // in force from their next start on
	Faults  []string `json:"faults,omitempty"`  // of files that are not in force
}

// call is work for the loop, asked by another goroutine.
type call struct{ do func() }

// errEnded is told to whom the loop can no longer serve.
var errEnded = errors.New("the supervisor has stopped")

// inLoop runs do in the loop and waits for its end.
func (s *Supervisor) inLoop(ctx context.Context, do func()) error {
	over := make(chan struct{})
	select {
	case s.calls <- call{func() { defer close(over); do() }}:
		<-over
		return nil
	case <-s.ended:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Status lists all services, in start order.
func (s *Supervisor) Status(ctx context.Context) ([]ServiceStatus, error) {
	var list []ServiceStatus
	err := s.inLoop(ctx, func() {
		list = make([]ServiceStatus, len(s.lives))
		for i := range list {
			list[i] = s.status(i, time.Now())
		}
	})
	return list, err
}

func (s *Supervisor) status(i int, at time.Time) ServiceStatus {
	svc, sp := &s.world.svcs[i], &s.world.specs[i]
	st := ServiceStatus{
		Name: sp.Name, State: svc.phase.String(), PID: svc.pid, Since: s.lives[i].changed,
		Restarts: max(0, svc.lives-1), Description: sp.Description, Type: string(sp.Type),
		Reason: s.world.reason(i), Text: s.lives[i].text,
		Needs: sp.Needs, Wants: sp.Wants, After: sp.After,
	}
	if !svc.broken {
		st.LastExit = svc.why
	}
	if svc.phase == backoff {
		st.RetryIn = max(0, svc.deadline.Sub(at).Seconds())
	}
	return st
}

// Handlers gives the operations of the control protocol: status, and start, stop, restart and
// kill with {"name": …}. Start, stop and restart answer when it is done or has visibly failed.
func (s *Supervisor) Handlers() map[string]control.Handler {
	return map[string]control.Handler{
		"status":  func(ctx context.Context, _ json.RawMessage) (any, error) { return s.Status(ctx) },
		"start":   s.change(want),
		"stop":    s.change(stop),
		"restart": s.change(restart),
		"kill":    s.killOp,
	}
}

// watcher waits until judge has an opinion: what was asked for is done (true), will not be (an
// error), or neither yet.
type watcher struct {
	dirty bool // something moved since judge was last asked
	judge func() (bool, error)
	reply chan error
}

// judge makes the judge for e, just before e is fed to service i.
func (s *Supervisor) judge(e event, i int) func() (bool, error) {
	svc := &s.world.svcs[i]
	if e == stop {
		return func() (bool, error) { return !svc.phase.alive(), nil }
	}
	first := svc.lives + 1 // the life that counts: the next one,
	if e == want && (svc.phase == up || svc.phase == starting) {
		first-- // or the one that is there
	}
	return func() (bool, error) {
		switch {
		case svc.lives >= first && (svc.phase == up || svc.phase == done):
			return true, nil
		case svc.phase == failed, svc.phase == backoff && svc.lives >= first,
			s.world.stands[i] == gone && !svc.phase.alive():
			return false, fmt.Errorf("service %s is %s: %s", s.name(i), svc.phase, s.world.reason(i))
		}
		return false, nil
	}
}

// change makes the handler that feeds e to a service and waits for the judge.
func (s *Supervisor) change(e event) control.Handler {
	return func(ctx context.Context, args json.RawMessage) (any, error) {
		var a struct {
			Name string `json:"name"`
		}
		if err := control.Args(args, &a); err != nil {
			return nil, err
		}
		i, err := s.find(a.Name)
		if err != nil {
			return nil, err
		}
		w := &watcher{dirty: true, reply: make(chan error, 1)}
		if err := s.inLoop(ctx, func() { s.begin(w, e, i) }); err != nil {
			return nil, err
		}
		select {
		case err = <-w.reply:
		case <-s.ended:
			err = errEnded
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = s.inLoop(context.WithoutCancel(ctx), func() { s.forget(w) }) // an ended loop has forgotten all
			return nil, &control.Error{Text: err.Error(), Hint: "try: osctl logs -u " + a.Name}
		}
		var st ServiceStatus
		err = s.inLoop(ctx, func() { st = s.status(i, time.Now()) })
		return st, err
	}
}

func (s *Supervisor) find(name string) (int, error) {
	if i, ok := s.index[name]; ok {
		return i, nil
	}
	if name == "" {
		return 0, &control.Error{Text: "no service named", Hint: `give {"name": …}`}
	}
	return 0, &control.Error{Text: fmt.Sprintf("no service %.80q", name), Hint: "try: osctl status"}
}

// begin feeds e to service i and lets w wait for what comes of it. It runs in the loop.
func (s *Supervisor) begin(w *watcher, e event, i int) {
	if s.world.ending && e != stop {
		w.reply <- errors.New("the system is stopping")
		return
	}
	if svc := &s.world.svcs[i]; svc.broken {
		w.reply <- fmt.Errorf("service %s cannot run: %s", s.name(i), svc.why)
		return
	}
	w.judge = s.judge(e, i)
	s.asked = append(s.asked, w)
	if at := time.Now(); e == stop {
		s.do(s.world.feed(at, i, input{event: stop}))
	} else {
		s.do(s.world.ask(at, i, e))
	}
}

// answer replies to the watchers that have their answer. It runs in the loop.
func (s *Supervisor) answer() {
	s.asked = slices.DeleteFunc(s.asked, func(w *watcher) bool {
		if !w.dirty {
			return false
		}
		w.dirty = false
		ok, err := w.judge()
		if ok || err != nil {
			w.reply <- err // capacity 1, sent once
		}
		return ok || err != nil
	})
}

func (s *Supervisor) forget(w *watcher) {
	s.asked = slices.DeleteFunc(s.asked, func(x *watcher) bool { return x == w })
}

// killOp sends a signal (KILL if none is named) to the main process of a service.
func (s *Supervisor) killOp(ctx context.Context, args json.RawMessage) (any, error) {
	a := struct {
		Name   string `json:"name"`
		Signal string `json:"signal"`
	}{Signal: "KILL"}
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	i, err := s.find(a.Name)
	if err != nil {
		return nil, err
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(a.Signal), "SIG"))
	if sig == 0 {
		return nil, &control.Error{Text: fmt.Sprintf("no signal %.20q", a.Signal), Hint: "use a name: TERM, HUP, KILL"}
	}
	var st ServiceStatus
	looped := s.inLoop(ctx, func() {
		if err = s.signal(i, sig); errors.Is(err, os.ErrProcessDone) {
			err = &control.Error{Text: "service " + a.Name + " has no process", Hint: "try: osctl start " + a.Name}
		}
		st = s.status(i, time.Now())
	})
	return st, errors.Join(looped, err)
}
