package supervise

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"resinos/services/demand"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/connection"
	"resinos/services/supervise/lifecycle"
)

// arm waits for the demand of service i: a change of its paths always, traffic only while nobody
// else looks at it.
func (s *Supervisor) arm(i int) (lifecycle.Input, bool) {
	sp, l := &s.world.Specs[i], s.lives[i]
	if s.world.Services[i].Phase != lifecycle.Armed {
		s.await(l, nil, sp.WatchPaths)
		return lifecycle.Input{}, false
	}
	if len(sp.Listen.Sockets) > 0 && len(l.descriptors.Sockets) == 0 && len(sp.Conditions) > 0 {
		s.checkConditions(i) // an open port is a promise: nobody is let in to wait for a service that will not start
		return lifecycle.Input{}, false
	}
	return s.open(i)
}

// open opens the sockets of an armed service, whose conditions hold, and waits for its demand.
func (s *Supervisor) open(i int) (lifecycle.Input, bool) {
	sp, l := &s.world.Specs[i], s.lives[i]
	if err := l.descriptors.Listen(sp); err != nil {
		s.log.Error("service does not listen", "service", sp.Name, "error", err)
		return lifecycle.Input{Event: lifecycle.Exit, Err: err}, true
	}
	s.await(l, l.descriptors.Sockets, sp.WatchPaths)
	return lifecycle.Input{}, false
}

// await has the watchers look; fired hears of it, once.
func (s *Supervisor) await(l *life, sockets []*os.File, paths []string) {
	if len(sockets) == 0 && len(paths) == 0 {
		return
	}
	err := s.demand.Arm(l.id, sockets, nil)
	if len(s.world.Specs[l.num].WatchPaths) > 0 {
		err = errors.Join(err, s.paths.Arm(l.id, nil, paths))
	}
	if err != nil {
		s.log.Error("demand of service not watched", "service", s.name(l.num), "error", err)
	}
}

// disarm lets a life wait for no demand any more.
func (s *Supervisor) disarm(l *life) {
	s.demand.Disarm(l.id)
	s.paths.Disarm(l.id)
}

// shut closes the sockets of service i: whoever comes now is refused.
func (s *Supervisor) shut(i int) {
	l := s.lives[i]
	s.disarm(l)
	l.descriptors.CloseSockets(s.world.Specs[i].Listen)
	if !s.world.Services[i].Wanted {
		l.descriptors.Close()
	}
}

// fired handles one demand.
func (s *Supervisor) fired(f demand.Fire) {
	l := s.byID[f.ID]
	if l == nil {
		return // its service is gone since
	}
	sp, svc := &s.world.Specs[l.num], &s.world.Services[l.num]
	if sp.Listen.Each {
		if svc.Phase == lifecycle.Up {
			s.serve(sp, l)
		}
		return
	}
	if svc.Phase == lifecycle.Armed {
		s.log.Info("service demanded", "service", sp.Name, "reason", f.What)
	}
	s.feed(l.num, lifecycle.Input{Event: lifecycle.Fire})
}

// serve starts a process for each connection that waits, as many as may run at once.
func (s *Supervisor) serve(sp *spec.Spec, l *life) {
	full := l.clients.Accept(l.descriptors.Sockets, connection.Acceptor{
		Spec: sp, Log: s.log, Start: func(conn *os.File) (*proc.Process, error) {
			g := command.Inherited{Files: []*os.File{conn}, Names: []string{"connection"}}
			return s.beside(sp, sp.Command, g, func(st proc.Status) { s.exits.Add(death{l, st, true}) })
		},
	})
	if !full {
		s.await(l, l.descriptors.Sockets, nil)
	}
}

// beside starts another process of the service, in its group. It may be called outside the loop.
func (s *Supervisor) beside(sp *spec.Spec, argv []string, g command.Inherited, onExit func(proc.Status)) (*proc.Process, error) {
	c, closeOurs, err := s.commands().Command(sp, argv, g)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	if err := s.groups.Join(sp, &c); err != nil {
		return nil, err
	}
	if c.Cgroup != nil {
		defer c.Cgroup.Close() // only looked at
	}
	c.OnExit = onExit
	return s.cfg.Reaper.Start(c)
}

// left handles the end of the process of one connection.
func (s *Supervisor) left(l *life, pid int) {
	l.clients.Remove(pid)
	switch svc := &s.world.Services[l.num]; {
	case svc.Phase == lifecycle.Up:
		s.await(l, l.descriptors.Sockets, nil)
	case l.clients.Len() == 0 && (svc.Phase == lifecycle.Stopping || svc.Phase == lifecycle.Killing):
		s.feed(l.num, lifecycle.Input{Event: lifecycle.Exit})
	}
}

// dismiss takes no more connections and asks those that are served to end; none is true when there
// are none.
func (s *Supervisor) dismiss(l *life, sig unix.Signal) (none bool) {
	s.demand.Disarm(l.id)
	l.clients.Signal(sig)
	return l.clients.Len() == 0
}
