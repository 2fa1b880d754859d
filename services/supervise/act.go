package supervise

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/transaction"
)

// feed gives one input to the world and carries out what follows.
func (s *Supervisor) feed(i int, in lifecycle.Input) { s.do(s.world.Feed(time.Now(), i, in)) }

// do carries out actions in order. What follows from them at once (a process that runs, a group
// that is empty) is fed back and its actions join the end of the line.
func (s *Supervisor) do(actions []transaction.Action) {
	line := slices.Clone(actions) // feed reuses its slice
	s.book()
	for len(line) > 0 {
		a := line[0]
		line = line[1:]
		in, answered := s.act(a)
		if !answered {
			continue
		}
		line = append(line, s.world.Feed(time.Now(), a.Service, in)...)
		s.book()
	}
	s.answer()
}

func (s *Supervisor) act(a transaction.Action) (lifecycle.Input, bool) {
	switch a.Act {
	case lifecycle.Fork:
		return s.fork(a.Service)
	case lifecycle.Arm:
		return s.arm(a.Service)
	case lifecycle.Term:
		return s.term(a.Service)
	case lifecycle.Kill:
		return s.kill(a.Service)
	case lifecycle.Sweep:
		return lifecycle.Input{Empty: true}, s.sweep(a.Service)
	case lifecycle.Shut:
		s.shut(a.Service)
	case lifecycle.Remove:
		if !s.world.Ending { // the shutdown removes all cgroups at once
			s.groups.Remove(&s.world.Specs[a.Service])
		}
	}
	return lifecycle.Input{}, false
}

func (s *Supervisor) name(i int) string { return s.world.Graph.Names[i] }

// stopSignal is what asks the service to stop.
func stopSignal(sp *spec.Spec) unix.Signal {
	if sig := unix.SignalNum("SIG" + sp.StopSignal); sig != 0 {
		return sig
	}
	return unix.SIGTERM
}

func (s *Supervisor) term(i int) (lifecycle.Input, bool) {
	sp, l := &s.world.Specs[i], s.lives[i]
	s.log.Debug("service asked to stop", "service", sp.Name)
	if sp.Listen.Each {
		return lifecycle.Input{Event: lifecycle.Exit}, s.dismiss(l, stopSignal(sp))
	}
	if err := s.signal(i, stopSignal(sp)); err != nil {
		s.log.Warn("service not signalled", "service", sp.Name, "error", err)
	}
	return lifecycle.Input{}, false
}

func (s *Supervisor) signal(i int, sig unix.Signal) error {
	p := s.lives[i].process
	if p == nil || s.world.Services[i].PID == 0 {
		return os.ErrProcessDone
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err // an end that is on its way to us is what was wanted
	}
	return nil
}

func (s *Supervisor) kill(i int) (lifecycle.Input, bool) {
	sp, l := &s.world.Specs[i], s.lives[i]
	s.log.Warn("service killed", "service", sp.Name, "pid", s.world.Services[i].PID, "reason", s.world.Services[i].Blame)
	if sp.Listen.Each {
		return lifecycle.Input{Event: lifecycle.Exit}, s.dismiss(l, unix.SIGKILL)
	}
	err := errors.Join(s.groups.Kill(sp, l.process), s.signal(i, unix.SIGKILL))
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Error("service not killed", "service", sp.Name, "error", err)
	}
	return lifecycle.Input{}, false
}

// sweep kills what the dead main process of i left behind, and reports whether nothing is left.
// What a service with kill mode process left behind is meant to live on, until the shutdown.
func (s *Supervisor) sweep(i int) bool {
	if s.world.Specs[i].KillMode == spec.Process && !s.world.Ending {
		return true
	}
	defer func() { s.alarm.Set(s.groups.Sweeps.Next()) }()
	return s.groups.Sweep(s.name(i), s.lives[i].id, s.lives[i].process)
}

// sweepAgain looks at every group that is being emptied.
func (s *Supervisor) sweepAgain() {
	sweeps := &s.groups.Sweeps
	for _, id := range sweeps.Waiting() {
		l := s.byID[id]
		if l == nil || s.world.Services[l.num].Phase != lifecycle.Clearing {
			sweeps.Drop(id)
			continue
		}
		if s.sweep(l.num) {
			sweeps.Drop(id)
			s.feed(l.num, lifecycle.Input{Empty: true})
		}
	}
	sweeps.Plan(time.Now())
	s.alarm.Set(sweeps.Next())
}

// book does the paperwork of every service that moved: its deadline, its probes, the log, the hook.
func (s *Supervisor) book() {
	if len(s.world.Changed) > 0 {
		s.requests.TouchAll()
	}
	for _, i := range s.world.Changed {
		svc, l := &s.world.Services[i], s.lives[i]
		s.alarm.Plan(i, svc.Deadline)
		if svc.Phase == l.shown {
			continue
		}
		l.shown, l.changed = svc.Phase, moment()
		s.buries = s.buries || l.removed
		s.attend(i)
		s.tell(i)
	}
	s.world.Changed = s.world.Changed[:0]
	s.alarm.Set(s.groups.Sweeps.Next())
}

// attend begins and ends what goes on beside a phase.
func (s *Supervisor) attend(i int) {
	sp, l := &s.world.Specs[i], s.lives[i]
	switch s.world.Services[i].Phase {
	case lifecycle.Up:
		if l.ready == 0 {
			l.ready = l.changed
		}
		l.checks.EndProbes()
		l.descriptors.CloseReady()
		s.probeHealth(sp, l)
		if sp.Listen.Each {
			s.serve(sp, l)
		}
	case lifecycle.Starting:
	default:
		l.checks.EndProbes()
		l.descriptors.CloseReady()
		l.checks.EndConditions()
	}
}

// tell logs the changes that a person may want to know of.
func (s *Supervisor) tell(i int) {
	svc, name := &s.world.Services[i], s.name(i)
	switch svc.Phase {
	case lifecycle.Up:
		s.log.Info("service up", "service", name, "pid", svc.PID)
	case lifecycle.Clearing:
		switch well := svc.Last.OK() && !svc.Spoiled; {
		case well && s.world.Specs[i].Type == spec.Oneshot && lifecycle.Rearms(&s.world.Specs[i]):
			s.log.Debug("service exited", "service", name, "status", svc.Why) // that it was demanded says enough
		case svc.Going || well:
			s.log.Info("service exited", "service", name, "status", svc.Why)
		default:
			s.log.Warn("service exited", "service", name, "status", svc.Why)
		}
	case lifecycle.Backoff:
		s.log.Warn("service waits before restart", "service", name, "pause", time.Until(svc.Deadline), "failures", svc.Failures)
	case lifecycle.Failed:
		s.log.Error("service given up", "service", name, "error", svc.Why)
	case lifecycle.Skipped:
		s.log.Info("service skipped", "service", name, "reason", svc.Why)
	case lifecycle.Down:
		s.log.Info("service down", "service", name)
	default:
		s.log.Debug("service state", "service", name, "state", svc.Phase.String())
	}
	if s.cfg.OnState != nil {
		s.cfg.OnState(name, svc.Phase.String())
	}
}
