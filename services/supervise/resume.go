package supervise

import (
	"errors"

	"resinos/services/supervise/lifecycle"
)

var errUnfinished = errors.New("not started: PID 1 was re-executed meanwhile")

// resume continues where the earlier life stopped. What was decided and not done is done now, or its deadline passes:
// every action may be carried out twice.
func (s *Supervisor) resume() {
	s.refresh()
	for i := range s.handles {
		s.resumeService(i)
	}
	s.takeExits()
	s.forgets = true // what was removed may have stopped in the earlier life
	s.forgetRemoved()
	s.log.Info("services taken over", "count", len(s.world.Alive()))
}

// resumeService does what the phase of service i needs beside its deadline.
func (s *Supervisor) resumeService(i int) {
	sp, svc, h := &s.world.Specs[i], &s.world.Services[i], s.handles[i]
	if len(sp.WatchPaths) > 0 && svc.Phase.Alive() {
		s.watchDemand(h, nil, sp.WatchPaths)
	}
	switch svc.Phase {
	case lifecycle.Armed:
		if in, answered := s.arm(i); answered {
			s.feed(i, in)
		}
	case lifecycle.Starting:
		if svc.PID == 0 { // a process that was started without our knowledge is swept
			s.feed(i, lifecycle.Input{Event: lifecycle.Exit, Err: errUnfinished})
			return
		}
		s.probeReady(sp, h)
	case lifecycle.Up:
		s.probeHealth(sp, h)
		if sp.Listen.Each {
			s.serve(sp, h)
		}
	case lifecycle.Clearing:
		if s.sweep(i) {
			s.feed(i, lifecycle.Input{Empty: true})
		}
	case lifecycle.Stopping:
		if sp.Listen.Each && h.Clients.Len() == 0 {
			s.feed(i, lifecycle.Input{Event: lifecycle.Exit})
		}
	}
}
