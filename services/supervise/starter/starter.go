// Package starter starts the processes of services: it makes the command, creates or enters the cgroup, and passes
// descriptors on. The supervisor decides when a service starts, and what its end means. Read Starter first.
package starter

import (
	"log/slog"

	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/descriptor"
	"resinos/services/supervise/processes"
)

// Starter starts the processes of all services.
type Starter struct {
	Maker  command.Maker
	Groups *processes.Groups
	Reaper *proc.Reaper
	Log    *slog.Logger
}

// Main starts the main process of a service and passes its descriptors on. again means that the service had a main
// process before. onExit is called when the process has ended, which may be before Main returns. kills is how many
// processes of the cgroup were killed for want of memory before.
func (s *Starter) Main(sp *spec.Spec, d *descriptor.Set, again bool,
	onExit func(proc.Status)) (p *proc.Process, kills int, err error) {
	c, closeOurs, err := s.Maker.Command(sp, sp.Command, d.Inherited(sp))
	if err != nil {
		return nil, 0, err
	}
	defer closeOurs()
	if err := s.Groups.Create(sp, &c); err != nil {
		return nil, 0, err
	}
	kills = s.Groups.OOMKills(sp.Name)
	if again {
		command.WritePID(c.Stdout, 0) // lines that come before the new pid is known are not of the old one
	}
	p, err = s.start(c, onExit)
	if err != nil {
		return nil, 0, err
	}
	if p.Degraded != nil {
		s.Log.Warn("service started with less", "service", sp.Name, "pid", p.Pid, "error", p.Degraded)
	}
	command.WritePID(c.Stdout, p.Pid)
	return p, kills, nil
}

// Extra starts one more process of a service. Any goroutine may call it.
func (s *Starter) Extra(sp *spec.Spec, argv []string, g command.Inherited,
	onExit func(proc.Status)) (*proc.Process, error) {
	c, closeOurs, err := s.Maker.Command(sp, argv, g)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	if err := s.Groups.Join(sp, &c); err != nil {
		return nil, err
	}
	return s.start(c, onExit)
}

func (s *Starter) start(c proc.Command, onExit func(proc.Status)) (*proc.Process, error) {
	if c.Cgroup != nil {
		defer c.Cgroup.Close() // needed for the start only
	}
	c.OnExit = onExit
	return s.Reaper.Start(c)
}
