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
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
)

// Handlers gives the operations of the control protocol: status; show, start, stop, restart,
// reload and kill with {"name": …}; and rescan. Start, stop and restart answer when it is done or
// has visibly failed.
func (s *Supervisor) Handlers() map[string]control.Handler {
	return map[string]control.Handler{
		pid1.OpStatus:        func(ctx context.Context, _ json.RawMessage) (any, error) { return s.Status(ctx) },
		pid1.OpShow:          s.showOp,
		string(pid1.Start):   s.change(lifecycle.Want),
		string(pid1.Stop):    s.change(lifecycle.Stop),
		string(pid1.Restart): s.change(lifecycle.Restart),
		string(pid1.Reload):  s.reloadOp,
		pid1.OpKill:          s.killOp,
		pid1.OpRescan:        func(ctx context.Context, _ json.RawMessage) (any, error) { return s.rescan(ctx) },
	}
}

// watcher waits until judge has an opinion: what was asked for is done (true), will not be (an
// error), or neither yet.
type watcher struct {
	life  *life
	dirty bool // something moved since judge was last asked
	judge func() (bool, error)
	reply chan error
}

// judge makes the judge for e, just before e is fed to the service with life l.
func (s *Supervisor) judge(e lifecycle.Event, l *life) func() (bool, error) {
	now := func() *lifecycle.Service { return &s.world.Services[l.num] }
	forgotten := func() bool { return s.byID[l.id] != l } // its file was removed, and its number is another's
	if e == lifecycle.Stop {
		return func() (bool, error) { return forgotten() || !now().Phase.Alive(), nil }
	}
	name := s.name(l.num)
	svc := now()
	first := svc.Lives + 1 // the life that counts: the next one,
	if e == lifecycle.Want && (svc.Phase == lifecycle.Up || svc.Phase == lifecycle.Starting) || (svc.Phase == lifecycle.Down || svc.Phase == lifecycle.Skipped) && lifecycle.OnDemand(&s.world.Specs[l.num]) {
		first-- // or the one that is there, or none when it is to wait for its demand
	}
	return func() (bool, error) {
		if forgotten() {
			return false, fmt.Errorf("service %s is gone: its file was removed", name)
		}
		switch svc := now(); {
		case svc.Lives >= first && (svc.Phase == lifecycle.Up || svc.Phase == lifecycle.Done || svc.Phase == lifecycle.Armed && !l.checks.Pending()):
			return true, nil
		case svc.Phase == lifecycle.Failed, svc.Phase == lifecycle.Skipped, svc.Phase == lifecycle.Backoff && svc.Lives >= first, !svc.Wanted,
			s.world.Gone(l.num) && !svc.Phase.Alive():
			return false, fmt.Errorf("service %s is %s: %s", s.name(l.num), svc.Phase, s.world.Reason(l.num))
		}
		return false, nil
	}
}

// change makes the handler that feeds e to a service and waits for the judge.
func (s *Supervisor) change(e lifecycle.Event) control.Handler {
	return func(ctx context.Context, args json.RawMessage) (any, error) {
		var a pid1.Named
		if err := control.Args(args, &a); err != nil {
			return nil, err
		}
		var unknown error
		w := &watcher{dirty: true, reply: make(chan error, 1)}
		if err := s.calls.Do(ctx, func() { unknown = s.begin(w, e, a.Name) }); err != nil || unknown != nil {
			return nil, errors.Join(err, unknown)
		}
		var err error
		select {
		case err = <-w.reply:
		case <-s.calls.Ended():
			err = loop.ErrEnded
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = s.calls.Do(context.WithoutCancel(ctx), func() { s.forget(w) }) // an ended loop has forgotten all
			return nil, &control.Error{Text: err.Error(), Hint: "try: osctl logs -u " + a.Name}
		}
		st, err := s.statusOf(ctx, a.Name)
		var none *control.Error
		if e == lifecycle.Stop && errors.As(err, &none) { // its file is gone: it was forgotten as soon as it had stopped
			return pid1.ServiceStatus{Name: a.Name, State: pid1.Removed, Removed: true}, nil
		}
		return st, err
	}
}

// statusOf is the status of one service.
func (s *Supervisor) statusOf(ctx context.Context, name string) (st pid1.ServiceStatus, err error) {
	var unknown error
	err = s.calls.Do(ctx, func() {
		var i int
		if i, unknown = s.find(name); unknown == nil {
			st = s.status(i, time.Now())
		}
	})
	return st, errors.Join(err, unknown)
}

// find gives the number of a service. It must run in the loop, where numbers hold.
func (s *Supervisor) find(name string) (int, error) {
	if i, ok := s.index[name]; ok {
		return i, nil
	}
	if name == "" {
		return 0, &control.Error{Text: "no service named", Hint: `give {"name": …}`}
	}
	return 0, &control.Error{Text: fmt.Sprintf("no service %.80q", name), Hint: "try: osctl status"}
}

// begin feeds e to the service and lets w wait for what comes of it. It runs in the loop.
func (s *Supervisor) begin(w *watcher, e lifecycle.Event, name string) error {
	i, err := s.find(name)
	if err != nil {
		return err
	}
	if s.world.Ending && e != lifecycle.Stop {
		return errors.New("the system is stopping")
	}
	if svc := &s.world.Services[i]; svc.Broken && e != lifecycle.Stop {
		return s.unfit(i)
	}
	w.life, w.judge = s.lives[i], s.judge(e, s.lives[i])
	s.asked = append(s.asked, w)
	if at := time.Now(); e == lifecycle.Stop {
		s.do(s.world.Feed(at, i, lifecycle.Input{Event: lifecycle.Stop}))
	} else {
		s.do(s.world.Ask(at, i, e))
	}
	return nil
}

// unfit says why a service cannot run at all, and what to do about it.
func (s *Supervisor) unfit(i int) error {
	name := s.name(i)
	if s.world.Specs[i].Masked {
		return &control.Error{Text: "service " + name + " is masked", Hint: "try: osctl unmask " + name}
	}
	return &control.Error{
		Text: fmt.Sprintf("service %s cannot run: %s", name, s.world.Services[i].Why),
		Hint: "mend its file, then: osctl rescan",
	}
}

// stir answers those who wait for a service that has changed without an input.
func (s *Supervisor) stir(l *life) {
	for _, w := range s.asked {
		w.dirty = w.dirty || w.life == l
	}
	s.answer()
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

// killOp sends a signal (KILL if none is named) to the main process of a service, or to all of it.
func (s *Supervisor) killOp(ctx context.Context, args json.RawMessage) (any, error) {
	a := pid1.Kill{Signal: "KILL"}
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(a.Signal), "SIG"))
	if sig == 0 {
		return nil, &control.Error{Text: fmt.Sprintf("no signal %.20q", a.Signal), Hint: "use a name: TERM, HUP, KILL"}
	}
	var st pid1.ServiceStatus
	var err error
	looped := s.calls.Do(ctx, func() {
		var i int
		if i, err = s.find(a.Name); err != nil {
			return
		}
		if err = s.hit(i, sig, a.All); errors.Is(err, os.ErrProcessDone) {
			err = &control.Error{Text: "service " + a.Name + " has no process", Hint: "try: osctl start " + a.Name}
		}
		st = s.status(i, time.Now())
	})
	return st, errors.Join(looped, err)
}

// hit sends sig to the main process of i, or to everything in its group.
func (s *Supervisor) hit(i int, sig unix.Signal, all bool) error {
	if !all {
		return s.signal(i, sig)
	}
	return s.groups.Signal(&s.world.Specs[i], s.lives[i].process, sig)
}

// showOp tells everything of one service.
func (s *Supervisor) showOp(ctx context.Context, args json.RawMessage) (any, error) {
	var a pid1.Named
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	var shown pid1.Shown
	var unknown error
	err := s.calls.Do(ctx, func() {
		var i int
		if i, unknown = s.find(a.Name); unknown == nil {
			shown = pid1.Shown{Status: s.status(i, time.Now()), Spec: s.world.Specs[i]}
		}
	})
	return shown, errors.Join(err, unknown)
}

// reloadOp has a service read its own configuration again, by signal or command.
func (s *Supervisor) reloadOp(ctx context.Context, args json.RawMessage) (any, error) {
	var a pid1.Named
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	var sp spec.Spec
	var refused error
	err := s.calls.Do(ctx, func() {
		var i int
		if i, refused = s.find(a.Name); refused == nil {
			sp = s.world.Specs[i]
			refused = s.reload(i)
		}
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	if len(sp.ReloadCommand) > 0 {
		if err := s.checks.Command(&sp)(ctx, sp.ReloadCommand); err != nil {
			return nil, &control.Error{Text: fmt.Sprintf("service %s is not reloaded: %v", a.Name, err), Hint: "try: osctl logs -u " + a.Name}
		}
	}
	return s.statusOf(ctx, a.Name)
}

// reload sends the reload signal of i, if that is how it is reloaded, or says why it cannot be.
func (s *Supervisor) reload(i int) error {
	sp, name := &s.world.Specs[i], s.name(i)
	switch {
	case !reloads(sp):
		return &control.Error{Text: "service " + name + " cannot be reloaded: its file says neither reload-signal nor reload-command", Hint: "try: osctl restart " + name}
	case s.world.Services[i].Phase != lifecycle.Up:
		return &control.Error{Text: fmt.Sprintf("service %s is %s, not up", name, s.world.Services[i].Phase), Hint: "try: osctl start " + name}
	case sp.ReloadSignal != "":
		return s.signal(i, unix.SignalNum("SIG"+sp.ReloadSignal))
	}
	return nil
}
