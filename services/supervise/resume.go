package supervise

import (
	"errors"
	"os"
	"syscall"

	"resinos/services/proc"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/savedstate"
)

var errUnfinished = errors.New("not started: PID 1 was executed again meanwhile")

// takeOver adopts the processes of the earlier life. It comes before the reaper runs: what died
// meanwhile is then still there to be told apart.
func (s *Supervisor) takeOver(exits []savedstate.Exit) {
	ended := map[int]syscall.WaitStatus{}
	for _, x := range exits {
		ended[x.PID] = syscall.WaitStatus(x.Wait)
	}
	for i, l := range s.lives {
		if pid := s.world.Services[i].PID; pid != 0 {
			l.process = s.inherit(l, savedstate.Process{PID: pid, Birth: l.birth}, ended, false)
		}
		for _, c := range l.left {
			if p := s.inherit(l, c, ended, true); p != nil {
				l.clients.Add(p)
			}
		}
		l.left = nil
	}
}

// resume goes on where the earlier life stopped. What was decided and not done is done again or
// overtaken by its deadline: each act may be done twice.
func (s *Supervisor) resume() {
	s.replan()
	for i := range s.lives {
		s.goOn(i)
	}
	s.post()
	s.buries = true // what was removed may have stopped in the earlier life
	s.bury()
	s.log.Info("services taken over", "count", len(s.world.Alive()))
}

// inherit adopts one process. Of one that has ended already it is nil, and its exit is in the
// mailbox.
func (s *Supervisor) inherit(l *life, c savedstate.Process, ended map[int]syscall.WaitStatus, client bool) *proc.Process {
	if wait, dead := ended[c.PID]; dead {
		s.exits.Add(death{l, proc.Status{Pid: c.PID, Wait: wait}, client})
		return nil
	}
	p, err := s.cfg.Reaper.Adopt(c.PID, c.Birth, func(st proc.Status) { s.exits.Add(death{l, st, client}) })
	if err == nil {
		return p
	}
	if !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("process not taken over", "service", s.name(l.num), "pid", c.PID, "error", err)
	}
	s.exits.Add(death{l, proc.Status{Pid: c.PID, Unknown: true}, client})
	return nil
}

// goOn does what the phase of service i needs beside its deadline.
func (s *Supervisor) goOn(i int) {
	sp, svc, l := &s.world.Specs[i], &s.world.Services[i], s.lives[i]
	if len(sp.WatchPaths) > 0 && svc.Phase.Alive() {
		s.await(l, nil, sp.WatchPaths)
	}
	switch svc.Phase {
	case lifecycle.Armed:
		if in, answered := s.arm(i); answered {
			s.feed(i, in)
		}
	case lifecycle.Starting:
		if svc.PID == 0 { // one that takes connections is up once it is told to
			s.feed(i, lifecycle.Input{Event: lifecycle.Exit, Err: errUnfinished}) // what was forked and not booked is swept
			return
		}
		s.probeReady(sp, l)
	case lifecycle.Up:
		s.probeHealth(sp, l)
		if sp.Listen.Each {
			s.serve(sp, l)
		}
	case lifecycle.Clearing:
		if s.sweep(i) {
			s.feed(i, lifecycle.Input{Empty: true})
		}
	case lifecycle.Stopping:
		if sp.Listen.Each && l.clients.Len() == 0 {
			s.feed(i, lifecycle.Input{Event: lifecycle.Exit})
		}
	}
}
