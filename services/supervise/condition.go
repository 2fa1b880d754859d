package supervise

import (
	"context"

	"resinos/services/probe"
	"resinos/services/supervise/lifecycle"
)

// consider has the conditions of service i judged beside the loop, and concludes.
func (s *Supervisor) consider(i int) {
	sp, l := &s.world.Specs[i], s.lives[i]
	if l.looking == nil {
		l.looking = make(chan struct{}, 1)
	}
	l.considered++
	l.considering = true
	name, looking, number, conditions := sp.Name, l.looking, l.considered, sp.Conditions
	ctx, cancel := context.WithCancel(s.background)
	l.overtake = cancel
	s.helpers.Add(1)
	s.cfg.Guard.Go("consider "+name, func() {
		defer s.helpers.Done()
		defer cancel()
		in := lifecycle.Input{}
		why, err := probe.Conditions(ctx, looking, conditions, s.cfg.Conditions, func(look func()) { s.cfg.Guard.Go("look "+name, look) })
		switch {
		case err != nil:
			in = lifecycle.Input{Event: lifecycle.Exit, Err: err}
		case why != "":
			in = lifecycle.Input{Event: lifecycle.Skip, Why: why}
		}
		s.calls.Post(s.background, func() { s.conclude(l, number, in) })
	})
}

// conclude starts a service whose conditions hold, or opens its sockets, in the loop. number is that of the start that was considered: its service may
// have been stopped, started again or forgotten meanwhile.
func (s *Supervisor) conclude(l *life, number int, in lifecycle.Input) {
	if s.byID[l.id] != l || l.considered != number {
		return
	}
	l.considering = false
	switch s.world.Services[l.num].Phase {
	case lifecycle.Starting:
		if in.Event == lifecycle.None {
			in = s.spawn(l.num)
		}
	case lifecycle.Armed:
		if in.Event == lifecycle.None {
			var answered bool
			if in, answered = s.open(l.num); !answered {
				s.stir(l)
				return
			}
		}
	case lifecycle.Leaving, lifecycle.Stopping, lifecycle.Killing:
		in = lifecycle.Input{Event: lifecycle.Exit, Err: errOvertaken}
	default:
		return // a service without a main process is stopped at once
	}
	s.feed(l.num, in)
}
