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
	"resinos/services/supervise/handle"
	"resinos/services/supervise/lifecycle"
)

// arm waits for the demand of service i: for a change of its paths always, for traffic only while the service is armed,
// because otherwise its own process accepts.
func (s *Supervisor) arm(i int) (lifecycle.Input, bool) {
	sp, h := &s.world.Specs[i], s.handles[i]
	if s.world.Services[i].Phase != lifecycle.Armed {
		s.watchDemand(h, nil, sp.WatchPaths)
		return lifecycle.Input{}, false
	}
	if len(sp.Listen.Sockets) > 0 && len(h.Descriptors.Sockets) == 0 && len(sp.Conditions) > 0 {
		s.checkConditions(i) // before the port is open: a client must not wait for a service that will not start
		return lifecycle.Input{}, false
	}
	return s.startListening(i)
}

// startListening opens the sockets of armed service i, whose conditions hold, and waits for its demand.
func (s *Supervisor) startListening(i int) (lifecycle.Input, bool) {
	sp, h := &s.world.Specs[i], s.handles[i]
	if err := h.Descriptors.Listen(sp); err != nil {
		s.log.Error("service does not listen", "service", sp.Name, "error", err)
		return lifecycle.Input{Event: lifecycle.Exit, Err: err}, true
	}
	s.watchDemand(h, h.Descriptors.Awaited(sp), sp.WatchPaths)
	return lifecycle.Input{}, false
}

// watchDemand makes the watchers report the next demand, once, to the loop, which calls fired.
func (s *Supervisor) watchDemand(h *handle.Handle, sockets []*os.File, paths []string) {
	if len(sockets) == 0 && len(paths) == 0 {
		return
	}
	err := s.demand.Arm(h.ID, sockets, nil)
	if len(s.world.Specs[h.Num].WatchPaths) > 0 {
		err = errors.Join(err, s.paths.Arm(h.ID, nil, paths))
	}
	if err != nil {
		s.log.Error("demand of service not watched", "service", s.name(h.Num), "error", err)
	}
}

// disarm ends the waiting for the demand of a service.
func (s *Supervisor) disarm(h *handle.Handle) {
	s.demand.Disarm(h.ID)
	s.paths.Disarm(h.ID)
}

// stopListening closes the sockets of service i: new clients are refused.
func (s *Supervisor) stopListening(i int) {
	h := s.handles[i]
	s.disarm(h)
	h.Descriptors.CloseSockets(s.world.Specs[i].Listen)
	if !s.world.Services[i].Wanted {
		h.Descriptors.CloseStored()
	}
}

// fired handles the demand of a service.
func (s *Supervisor) fired(f demand.Fire) {
	h := s.byID[f.ID]
	if h == nil {
		return // the service was forgotten
	}
	sp, svc := &s.world.Specs[h.Num], &s.world.Services[h.Num]
	if f.Gone != nil {
		h.Descriptors.HungUp(f.Gone) // it would be ready for ever
	}
	if sp.Listen.Each {
		if svc.Phase == lifecycle.Up {
			s.serve(sp, h)
		}
		return
	}
	if svc.Phase == lifecycle.Armed {
		s.log.Info("service demanded", "service", sp.Name, "reason", f.What)
	}
	s.feed(h.Num, lifecycle.Input{Event: lifecycle.Fire})
}

// serve starts a process for each connection that waits, as many as may run at once.
func (s *Supervisor) serve(sp *spec.Spec, h *handle.Handle) {
	full := h.Clients.Accept(h.Descriptors.Sockets, connection.Acceptor{
		Spec: sp, Log: s.log, Start: func(conn *os.File) (*proc.Process, error) {
			g := command.Inherited{Files: []*os.File{conn}, Names: []string{"connection"}}
			return s.starter.Extra(sp, sp.Command, g, func(st proc.Status) {
				s.exits.Add(handle.Exit{Handle: h, Status: st, Client: true})
			})
		},
	})
	if !full {
		s.watchDemand(h, h.Descriptors.Sockets, nil)
	}
}

// connectionEnded handles the end of the process of a connection.
func (s *Supervisor) connectionEnded(h *handle.Handle, pid int) {
	h.Clients.Remove(pid)
	switch svc := &s.world.Services[h.Num]; {
	case svc.Phase == lifecycle.Up:
		s.watchDemand(h, h.Descriptors.Sockets, nil)
	case h.Clients.Len() == 0 && (svc.Phase == lifecycle.Stopping || svc.Phase == lifecycle.Killing):
		s.feed(h.Num, lifecycle.Input{Event: lifecycle.Exit})
	}
}

// endConnections accepts no more connections and sends sig to the processes of the others. It reports whether there are
// none.
func (s *Supervisor) endConnections(h *handle.Handle, sig unix.Signal) (none bool) {
	s.demand.Disarm(h.ID)
	h.Clients.Signal(sig)
	return h.Clients.Len() == 0
}
