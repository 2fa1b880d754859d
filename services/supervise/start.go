package supervise

import (
	"context"

	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
)

// fork starts the process of service i. If the service has conditions it has them checked first, and the result is not
// known yet (answered is false).
func (s *Supervisor) fork(i int) (in lifecycle.Input, answered bool) {
	if len(s.world.Specs[i].Conditions) > 0 && s.world.Services[i].Phase == lifecycle.Starting {
		s.checkConditions(i)
		return lifecycle.Input{}, false
	}
	return s.startProcess(i), true
}

// startProcess starts the process of service i, whose conditions hold.
func (s *Supervisor) startProcess(i int) lifecycle.Input {
	if s.world.Services[i].Phase != lifecycle.Starting {
		return lifecycle.Input{Event: lifecycle.Exit, Err: errStopped}
	}
	sp, h := &s.world.Specs[i], s.handles[i]
	h.Text, h.Stale = "", false
	if h.Began == 0 {
		h.Began = uptime()
	}
	pid, err := s.startMain(sp, h)
	if err != nil {
		s.log.Error("service not started", "service", sp.Name, "error", err)
		return lifecycle.Input{Event: lifecycle.Exit, Err: err}
	}
	return lifecycle.Input{Began: true, PID: pid}
}

// startMain starts the main process of a service and returns its pid. A service with one process for each connection
// has none: it begins to accept connections.
func (s *Supervisor) startMain(sp *spec.Spec, h *handle.Handle) (pid int, err error) {
	if err := h.Descriptors.Listen(sp); err != nil {
		return 0, err
	}
	if sp.Listen.Each {
		s.watchDemand(h, h.Descriptors.Sockets, nil)
		return 0, nil
	}
	onExit := func(st proc.Status) { s.exits.Add(handle.Exit{Handle: h, Status: st}) }
	if p := s.takeStarted(sp.Name, h, onExit); p != nil {
		h.Started(p)
		s.probeReady(sp, h)
		return p.Pid, nil
	}
	p, kills, err := s.starter.Main(sp, &h.Descriptors, h.Process != nil, onExit)
	h.OOMs = kills
	if err != nil {
		return 0, err
	}
	h.Started(p)
	h.Descriptors.CloseHungUp()
	s.probeReady(sp, h)
	return p.Pid, nil
}

// takeStarted takes over the process of a service that was started before the supervisor. It returns nil if there is
// none, or if somebody else has reaped it.
func (s *Supervisor) takeStarted(name string, h *handle.Handle, onExit func(proc.Status)) *proc.Process {
	early, there := s.cfg.Started[name]
	if !there {
		return nil
	}
	delete(s.cfg.Started, name)
	if err := early.take(onExit); err != nil {
		s.log.Info("process not taken over", "service", name, "pid", early.Process.Pid, "error", err)
		return nil
	}
	h.Began = early.Began.Seconds()
	return early.Process
}

// Booted ends the boot: from now on every service has its lasting share of the processor.
func (s *Supervisor) Booted(ctx context.Context) error {
	return s.calls.Do(ctx, func() {
		s.groups.Booted()
		for i := range s.world.Specs {
			if sp := &s.world.Specs[i]; sp.Limits.BootCPUWeight > 0 && s.world.Services[i].PID != 0 {
				s.groups.Limit(sp)
			}
		}
	})
}
