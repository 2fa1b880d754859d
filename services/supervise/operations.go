package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/control"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
	"resinos/services/supervise/operation"
	"resinos/services/supervise/request"
)

// Handlers returns the operations of the control protocol that concern services.
func (s *Supervisor) Handlers() map[string]control.Handler { return operation.Handlers(s) }

// Ping returns when the loop has done one turn.
func (s *Supervisor) Ping(ctx context.Context) error {
	if err := s.calls.Do(ctx, func() {}); err != nil {
		return fmt.Errorf("ping supervisor: %w", err)
	}
	return nil
}

// Status lists all services, in start order.
func (s *Supervisor) Status(ctx context.Context) ([]pid1.ServiceStatus, error) {
	var list []pid1.ServiceStatus
	err := s.calls.Do(ctx, func() {
		list = make([]pid1.ServiceStatus, len(s.handles))
		for i := range list {
			list[i] = s.status(i)
		}
	})
	return list, err
}

// status is the status of service i. It runs in the loop.
func (s *Supervisor) status(i int) pid1.ServiceStatus {
	h := s.handles[i]
	return operation.Status(operation.View{
		Spec: &s.world.Specs[i], Service: &s.world.Services[i], Reason: s.world.Reason(i), Text: h.Text,
		Since: h.Changed, Began: h.Began, Ready: h.Ready, Clients: h.Clients.Len(), Stored: h.Descriptors.Stored(),
		Failed: h.Checks.Failures(), Removed: h.Removed, Stale: h.Stale,
	}, time.Now())
}

// Show returns everything about one service.
func (s *Supervisor) Show(ctx context.Context, name string) (shown pid1.Shown, err error) {
	err = s.on(ctx, name, func(i int) error {
		shown = pid1.Shown{Status: s.status(i), Spec: s.world.Specs[i]}
		return nil
	})
	return shown, err
}

// on calls do in the loop, with the number of a service.
func (s *Supervisor) on(ctx context.Context, name string, do func(i int) error) error {
	var err error
	called := s.calls.Do(ctx, func() {
		i, known := s.index[name]
		if !known {
			err = operation.Unknown(name)
			return
		}
		err = do(i)
	})
	return errors.Join(called, err)
}

// Change starts, stops, restarts or reloads a service. It returns when that is done or has visibly failed.
func (s *Supervisor) Change(ctx context.Context, op pid1.Change, name string) (st pid1.ServiceStatus, err error) {
	switch op {
	case pid1.Start:
		err = s.apply(ctx, lifecycle.Want, name)
	case pid1.Stop:
		err = s.apply(ctx, lifecycle.Stop, name)
	case pid1.Restart:
		err = s.apply(ctx, lifecycle.Restart, name)
	case pid1.Reload:
		err = s.reload(ctx, name)
	default:
		err = &control.Error{Text: fmt.Sprintf("no change %q", op)}
	}
	if err != nil {
		return st, err
	}
	err = s.on(ctx, name, func(i int) error { st = s.status(i); return nil })
	var unknown *control.Error
	if op == pid1.Stop && errors.As(err, &unknown) { // its file is gone: it was forgotten as soon as it had stopped
		return operation.Forgotten(name), nil
	}
	return st, err
}

// apply applies e to a service and waits until what it asks for is done or will not be.
func (s *Supervisor) apply(ctx context.Context, e lifecycle.Event, name string) error {
	var r *request.Request
	if err := s.on(ctx, name, func(i int) (err error) { r, err = s.begin(e, i); return err }); err != nil {
		return err
	}
	var err error
	select {
	case err = <-r.Done():
	case <-s.calls.Ended():
		err = loop.ErrEnded
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = s.calls.Do(context.WithoutCancel(ctx), func() { s.requests.Remove(r) }) // without a loop nobody looks at it
		return operation.Failed(name, err)
	}
	return nil
}

// begin applies e to service i. It runs in the loop.
func (s *Supervisor) begin(e lifecycle.Event, i int) (*request.Request, error) {
	sp, svc := &s.world.Specs[i], &s.world.Services[i]
	if s.world.Ending && e != lifecycle.Stop {
		return nil, errors.New("the system is stopping")
	}
	if svc.Broken && e != lifecycle.Stop {
		return nil, operation.Unfit(sp, svc.Why)
	}
	r := request.New(e, s.handles[i].ID, sp, svc)
	s.requests.Add(r)
	if at := time.Now(); e == lifecycle.Stop {
		s.do(s.world.Feed(at, i, lifecycle.Input{Event: lifecycle.Stop}))
	} else {
		s.do(s.world.Ask(at, i, e))
	}
	return r, nil
}

// answer answers the requests whose answer is known by now. It runs in the loop.
func (s *Supervisor) answer() {
	s.requests.Answer(func(id int) request.Target {
		h := s.byID[id]
		return request.Target{
			Service: &s.world.Services[h.Num], Pending: h.Checks.Pending(), Gone: s.world.Gone(h.Num),
			Reason: func() string { return s.world.Reason(h.Num) },
		}
	})
}

// reload makes a service read its own configuration again, by a signal or a command.
func (s *Supervisor) reload(ctx context.Context, name string) error {
	var sp spec.Spec
	err := s.on(ctx, name, func(i int) error {
		sp = s.world.Specs[i]
		if err := operation.Reloadable(&sp, s.world.Services[i].Phase); err != nil || sp.ReloadSignal == "" {
			return err
		}
		return s.signal(i, unix.SignalNum("SIG"+sp.ReloadSignal))
	})
	if err != nil || len(sp.ReloadCommand) == 0 {
		return err
	}
	if err := s.checks.Command(&sp)(ctx, sp.ReloadCommand); err != nil {
		return operation.Failed(name, fmt.Errorf("service %s is not reloaded: %w", name, err))
	}
	return nil
}

// Kill sends a signal to the main process of a service, or to all its processes.
func (s *Supervisor) Kill(ctx context.Context, k pid1.Kill) (st pid1.ServiceStatus, err error) {
	name := k.Signal
	if name == "" {
		name = "KILL"
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if sig == 0 {
		return st, operation.UnknownSignal(k.Signal)
	}
	err = s.on(ctx, k.Name, func(i int) error {
		var err error
		if k.All {
			err = s.groups.Signal(&s.world.Specs[i], s.handles[i].Process, sig)
		} else {
			err = s.signal(i, sig)
		}
		st = s.status(i)
		return err
	})
	if errors.Is(err, os.ErrProcessDone) {
		err = operation.NoProcess(k.Name)
	}
	return st, err
}
