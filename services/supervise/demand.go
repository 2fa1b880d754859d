package supervise

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"resinos/services/demand"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
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

// maxAccept bounds the connections that are taken in one turn of the loop.
const maxAccept = 16

// serve starts a process for each connection that waits, as many as may run at once.
func (s *Supervisor) serve(sp *spec.Spec, l *life) {
	for range maxAccept {
		if len(l.clients) >= sp.Listen.Max {
			return // a client that leaves has us look again
		}
		if !s.serveOne(sp, l) {
			break
		}
	}
	s.await(l, l.descriptors.Sockets, nil)
}

// serveOne reports whether there may be another connection.
func (s *Supervisor) serveOne(sp *spec.Spec, l *life) bool {
	for _, socket := range l.descriptors.Sockets {
		conn, peer, err := demand.Accept(socket)
		if errors.Is(err, demand.ErrNone) {
			continue
		}
		if err != nil {
			s.log.Warn("connection lost", "service", sp.Name, "error", err)
			return false
		}
		if err := s.client(sp, l, conn); err != nil {
			s.log.Error("connection not served", "service", sp.Name, "peer", peer, "error", err)
		}
		conn.Close() // the process has its own
		return true
	}
	return false
}

// client starts the process that serves conn.
func (s *Supervisor) client(sp *spec.Spec, l *life, conn *os.File) error {
	p, err := s.beside(sp, sp.Command, command.Inherited{Files: []*os.File{conn}, Names: []string{"connection"}}, func(st proc.Status) {
		s.exits.Add(death{l, st, true})
	})
	if err != nil {
		return err
	}
	if l.clients == nil {
		l.clients = map[int]*proc.Process{}
	}
	l.clients[p.Pid] = p
	return nil
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
	delete(l.clients, pid)
	switch svc := &s.world.Services[l.num]; {
	case svc.Phase == lifecycle.Up:
		s.await(l, l.descriptors.Sockets, nil)
	case len(l.clients) == 0 && (svc.Phase == lifecycle.Stopping || svc.Phase == lifecycle.Killing):
		s.feed(l.num, lifecycle.Input{Event: lifecycle.Exit})
	}
}

// dismiss takes no more connections and asks those that are served to end; none is true when there
// are none.
func (s *Supervisor) dismiss(l *life, sig unix.Signal) (none bool) {
	s.demand.Disarm(l.id)
	for _, p := range l.clients {
		_ = p.Signal(sig) // one that has ended is on its way to us
	}
	return len(l.clients) == 0
}
