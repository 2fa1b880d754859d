package supervise

import (
	"context"

	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/lifecycle"
)

// fork starts the process of service i and tells how it went, at once if it has no conditions.
func (s *Supervisor) fork(i int) (in lifecycle.Input, answered bool) {
	if len(s.world.Specs[i].Conditions) > 0 && s.world.Services[i].Phase == lifecycle.Starting {
		s.checkConditions(i)
		return lifecycle.Input{}, false
	}
	return s.spawn(i), true
}

// spawn starts the process of service i.
func (s *Supervisor) spawn(i int) lifecycle.Input {
	if s.world.Services[i].Phase != lifecycle.Starting {
		return lifecycle.Input{Event: lifecycle.Exit, Err: errOvertaken}
	}
	sp, l := &s.world.Specs[i], s.lives[i]
	l.text, l.stale = "", false
	if l.began == 0 {
		l.began = moment()
	}
	pid, err := s.startMain(sp, l)
	if err != nil {
		s.log.Error("service not started", "service", sp.Name, "error", err)
		l.descriptors.CloseReady()
		return lifecycle.Input{Event: lifecycle.Exit, Err: err}
	}
	return lifecycle.Input{Began: true, PID: pid}
}

// commands makes the commands of all processes.
func (s *Supervisor) commands() *command.Maker {
	return &command.Maker{
		Launcher: s.cfg.Launcher, NotifyPath: s.cfg.NotifyPath, ConsolePath: s.cfg.ConsolePath,
		Output: s.cfg.Output, Log: s.log,
	}
}

// startMain starts the main process of a service, or begins to take connections, and returns its pid.
func (s *Supervisor) startMain(sp *spec.Spec, l *life) (pid int, err error) {
	if err := l.descriptors.Listen(sp); err != nil {
		return 0, err
	}
	if sp.Listen.Each {
		s.await(l, l.descriptors.Sockets, nil)
		return 0, nil
	}
	g, started, err := l.descriptors.Inherited(sp)
	if err != nil {
		return 0, err
	}
	defer started()
	c, closeOurs, err := s.commands().Command(sp, sp.Command, g)
	if err != nil {
		return 0, err
	}
	defer closeOurs()
	if err := s.groups.Create(sp, &c); err != nil {
		return 0, err
	}
	l.ooms = s.groups.OOMKills(sp.Name)
	if c.Cgroup != nil {
		defer c.Cgroup.Close() // only looked at
	}
	c.OnExit = func(st proc.Status) { s.exits.Add(death{l, st, false}) }
	if l.process != nil {
		command.WritePID(c.Stdout, 0) // what comes before the new number is known is not the old one's
	}
	p, err := s.cfg.Reaper.Start(c)
	if err != nil {
		return 0, err
	}
	if p.Degraded != nil {
		s.log.Warn("service started with less", "service", sp.Name, "pid", p.Pid, "error", p.Degraded)
	}
	l.process = p
	l.birth, _ = proc.StartTime(p.Pid) // 0 when it is dead already: its exit is on its way
	command.WritePID(c.Stdout, p.Pid)
	s.probeReady(sp, l)
	return p.Pid, nil
}

// Booted says that what a boot is waited for is there: from now on every service has its standing share of the processor.
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
