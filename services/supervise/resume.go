package supervise

import (
	"errors"
	"os"
	"syscall"

	"resinos/services/proc"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/savedstate"
)

var errUnfinished = errors.New("not started: PID 1 was re-executed meanwhile")

// adoptProcesses adopts the processes of the earlier life. The reaper must not run yet: a process that has ended is
// then still there, and its status can be read.
func (s *Supervisor) adoptProcesses(exits []savedstate.Exit) {
	ended := map[int]syscall.WaitStatus{}
	for _, x := range exits {
		ended[x.PID] = syscall.WaitStatus(x.Wait)
	}
	for i, h := range s.handles {
		if pid := s.world.Services[i].PID; pid != 0 {
			h.process = s.adoptProcess(h, savedstate.Process{PID: pid, Birth: h.birth}, ended, false)
		}
		for _, c := range h.earlier {
			if p := s.adoptProcess(h, c, ended, true); p != nil {
				h.clients.Add(p)
			}
		}
		h.earlier = nil
	}
}

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

// adoptProcess adopts one process. If it has ended it returns nil, and its exit is queued. ended are the exits that the
// earlier life knew of.
func (s *Supervisor) adoptProcess(h *handle, c savedstate.Process, ended map[int]syscall.WaitStatus,
	client bool) *proc.Process {
	if wait, dead := ended[c.PID]; dead {
		s.exits.Add(exit{h, proc.Status{Pid: c.PID, Wait: wait}, client})
		return nil
	}
	p, err := s.cfg.Reaper.Adopt(c.PID, c.Birth, func(st proc.Status) { s.exits.Add(exit{h, st, client}) })
	if err == nil {
		return p
	}
	if !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("process not taken over", "service", s.name(h.num), "pid", c.PID, "error", err)
	}
	s.exits.Add(exit{h, proc.Status{Pid: c.PID, Unknown: true}, client})
	return nil
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
		if sp.Listen.Each && h.clients.Len() == 0 {
			s.feed(i, lifecycle.Input{Event: lifecycle.Exit})
		}
	}
}
