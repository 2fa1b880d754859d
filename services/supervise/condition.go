package supervise

import (
	"context"

	"resinos/services/probe"
)

// consider has the conditions of service i judged beside the loop, and concludes.
func (s *Supervisor) consider(i int) {
	sp, l := &s.world.specs[i], s.lives[i]
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
		in := input{}
		why, err := probe.Conditions(ctx, looking, conditions, s.cfg.Conditions, func(look func()) { s.cfg.Guard.Go("look "+name, look) })
		switch {
		case err != nil:
			in = input{event: exit, err: err}
		case why != "":
			in = input{event: skip, why: why}
		}
		s.later(s.background, func() { s.conclude(l, number, in) })
	})
}

// conclude starts a service whose conditions hold, or opens its sockets, in the loop. number is that of the start that was considered: its service may
// have been stopped, started again or forgotten meanwhile.
func (s *Supervisor) conclude(l *life, number int, in input) {
	if s.byID[l.id] != l || l.considered != number {
		return
	}
	l.considering = false
	switch s.world.svcs[l.num].phase {
	case starting:
		if in.event == none {
			in = s.spawn(l.num)
		}
	case armed:
		if in.event == none {
			var answered bool
			if in, answered = s.open(l.num); !answered {
				s.stir(l)
				return
			}
		}
	case leaving, stopping, killing:
		in = input{event: exit, err: errOvertaken}
	default:
		return // a service without a main process is stopped at once
	}
	s.feed(l.num, in)
}
