package supervise

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/boottime"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/transaction"
)

// feed gives the world one input about service i and carries out what follows.
func (s *Supervisor) feed(i int, in lifecycle.Input) { s.do(s.world.Feed(time.Now(), i, in)) }

// do carries out actions in order. An action that has a result at once (a process that runs, a cgroup that is empty)
// makes it an input, whose actions follow at the end of the line.
func (s *Supervisor) do(actions []transaction.Action) {
	line := slices.Clone(actions) // feed reuses its slice
	s.update()
	for len(line) > 0 {
		a := line[0]
		line = line[1:]
		in, answered := s.act(a)
		if !answered {
			continue
		}
		line = append(line, s.world.Feed(time.Now(), a.Service, in)...)
		s.update()
	}
	s.answer()
}

// act carries out one action; answered means that it has the result in at once.
func (s *Supervisor) act(a transaction.Action) (in lifecycle.Input, answered bool) {
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
		s.stopListening(a.Service)
	case lifecycle.Remove:
		if !s.world.Ending { // the shutdown removes all cgroups at once
			s.groups.Remove(&s.world.Specs[a.Service])
		}
	}
	return lifecycle.Input{}, false
}

func (s *Supervisor) name(i int) string { return s.world.Graph.Names[i] }

// stopSignal is the signal that asks a service to stop.
func stopSignal(sp *spec.Spec) unix.Signal {
	if sig := unix.SignalNum("SIG" + sp.StopSignal); sig != 0 {
		return sig
	}
	return unix.SIGTERM
}

func (s *Supervisor) term(i int) (lifecycle.Input, bool) {
	sp, h := &s.world.Specs[i], s.handles[i]
	s.log.Debug("service asked to stop", "service", sp.Name)
	if sp.Listen.Each {
		return lifecycle.Input{Event: lifecycle.Exit}, s.endConnections(h, stopSignal(sp))
	}
	if err := s.signal(i, stopSignal(sp)); err != nil {
		s.log.Warn("service not signalled", "service", sp.Name, "error", err)
	}
	return lifecycle.Input{}, false
}

func (s *Supervisor) signal(i int, sig unix.Signal) error {
	p := s.handles[i].Process
	if p == nil || s.world.Services[i].PID == 0 {
		return os.ErrProcessDone
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err // the end of the process is about to be handled
	}
	return nil
}

func (s *Supervisor) kill(i int) (lifecycle.Input, bool) {
	sp, h := &s.world.Specs[i], s.handles[i]
	s.log.Warn("service killed", "service", sp.Name, "pid", s.world.Services[i].PID, "reason",
		s.world.Services[i].Blame)
	if sp.Listen.Each {
		return lifecycle.Input{Event: lifecycle.Exit}, s.endConnections(h, unix.SIGKILL)
	}
	err := errors.Join(s.groups.Kill(sp, h.Process), s.signal(i, unix.SIGKILL))
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Error("service not killed", "service", sp.Name, "error", err)
	}
	return lifecycle.Input{}, false
}

// sweep kills what the main process of i left behind when it ended, and reports whether nothing is left. With kill mode
// process the leftovers are meant to stay until the shutdown.
func (s *Supervisor) sweep(i int) bool {
	if s.world.Specs[i].KillMode == spec.Process && !s.world.Ending {
		return true
	}
	defer func() { s.alarm.Set(s.groups.Sweeps.Next()) }()
	return s.groups.Sweep(s.name(i), s.handles[i].ID, s.handles[i].Process)
}

// sweepAll looks at each service whose leftovers were killed.
func (s *Supervisor) sweepAll() {
	sweeps := &s.groups.Sweeps
	for _, id := range sweeps.Waiting() {
		h := s.byID[id]
		if h == nil || s.world.Services[h.Num].Phase != lifecycle.Clearing {
			sweeps.Drop(id)
			continue
		}
		if s.sweep(h.Num) {
			sweeps.Drop(id)
			s.feed(h.Num, lifecycle.Input{Empty: true})
		}
	}
	sweeps.Plan(time.Now())
	s.alarm.Set(sweeps.Next())
}

// update does what follows from the changes of the world beside its actions: it sets deadlines, begins and ends checks,
// and reports new phases.
func (s *Supervisor) update() {
	if len(s.world.Changed) > 0 {
		s.requests.TouchAll()
	}
	for _, i := range s.world.Changed {
		svc, h := &s.world.Services[i], s.handles[i]
		s.alarm.Plan(i, svc.Deadline)
		if svc.Phase == h.Shown {
			continue
		}
		h.Shown, h.Changed = svc.Phase, uptime()
		s.forgets = s.forgets || h.Removed
		s.enterPhase(i)
		s.logPhase(i)
	}
	s.world.Changed = s.world.Changed[:0]
	s.alarm.Set(s.groups.Sweeps.Next())
}

// enterPhase begins and ends what goes on during a phase.
func (s *Supervisor) enterPhase(i int) {
	sp, h := &s.world.Specs[i], s.handles[i]
	switch s.world.Services[i].Phase {
	case lifecycle.Up:
		if h.Ready == 0 {
			h.Ready = h.Changed
		}
		h.Checks.EndProbes()
		s.probeHealth(sp, h)
		if sp.Listen.Each {
			s.serve(sp, h)
		}
	case lifecycle.Starting:
	default:
		h.Checks.EndProbes()
		h.Checks.EndConditions()
	}
}

// logPhase reports the new phase of a service.
func (s *Supervisor) logPhase(i int) {
	svc, name := &s.world.Services[i], s.name(i)
	switch svc.Phase {
	case lifecycle.Up:
		s.log.Info("service up", "service", name, "pid", svc.PID)
	case lifecycle.Clearing:
		switch well := svc.Last.OK() && !svc.Spoiled; {
		case well && lifecycle.Rearms(&s.world.Specs[i]) &&
			(s.world.Specs[i].Type == spec.Oneshot || s.world.Specs[i].Start == spec.AtBoot):
			// a line says already that it was demanded, or its first life was no more than that of the boot
			s.log.Debug("service exited", "service", name, "status", svc.Why)
		case svc.Going || well:
			s.log.Info("service exited", "service", name, "status", svc.Why)
		default:
			s.log.Warn("service exited", "service", name, "status", svc.Why)
		}
	case lifecycle.Backoff:
		s.log.Warn("service waits before restart", "service", name, "pause", time.Until(svc.Deadline), "failures",
			svc.Failures)
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

// uptime is the time in seconds since the kernel started.
func uptime() float64 { return boottime.Now().Seconds() }
