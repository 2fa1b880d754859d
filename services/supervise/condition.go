package supervise

import (
	"context"
	"fmt"
	"os"
	"time"

	"resinos/services/spec"
)

// considerLimit is how long the conditions of a service may take to be judged.
const considerLimit = 10 * time.Second

var errUnanswered = fmt.Errorf("its conditions cannot be judged: no answer within %s; does a path in them lie on a mount that hangs?", considerLimit)

// pathCondition judges what needs no knowledge of the device: the other kinds do not hold.
func pathCondition(c spec.Condition) (holds bool, why string) {
	if c.Kind == spec.PathCondition {
		_, err := os.Lstat(c.Value)
		holds = err == nil
	}
	if holds == c.Not {
		return false, c.String() + " does not hold"
	}
	return true, ""
}

// consider has the conditions of service i judged beside the loop: a path may lie on a mount that hangs, and the kernel then lets
// nobody end the wait. So the one who looks is left behind, and nobody else looks for this service until that one is back.
func (s *Supervisor) consider(i int) {
	sp, l := &s.world.specs[i], s.lives[i]
	if l.looking == nil {
		l.looking = make(chan struct{}, 1)
	}
	l.considered++
	looking, number, conditions := l.looking, l.considered, sp.Conditions
	ctx, cancel := context.WithTimeoutCause(s.background, considerLimit, errUnanswered)
	l.overtake = cancel
	found := make(chan input, 1)
	s.cfg.Guard.Go("look "+sp.Name, func() { // nobody waits for its end
		select {
		case looking <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-looking }()
		found <- s.judgeAll(conditions)
	})
	s.helpers.Add(1)
	s.cfg.Guard.Go("consider "+sp.Name, func() {
		defer s.helpers.Done()
		defer cancel()
		var in input
		select {
		case in = <-found:
		case <-ctx.Done():
			in = input{event: exit, err: context.Cause(ctx)}
		}
		s.later(s.background, func() { s.conclude(l, number, in) })
	})
}

// judgeAll says skip when a condition does not hold.
func (s *Supervisor) judgeAll(conditions []spec.Condition) input {
	for _, c := range conditions {
		if holds, why := s.cfg.Conditions(c); !holds {
			return input{event: skip, why: why}
		}
	}
	return input{}
}

// conclude starts a service whose conditions hold, in the loop. number is that of the start that was considered: its service may
// have been stopped, started again or forgotten meanwhile.
func (s *Supervisor) conclude(l *life, number int, in input) {
	if s.byID[l.id] != l || l.considered != number {
		return
	}
	switch s.world.svcs[l.num].phase {
	case starting:
		if in.event == none {
			in = s.spawn(l.num)
		}
	case leaving, stopping, killing:
		in = input{event: exit, err: errOvertaken}
	default:
		return // a service without a main process is stopped at once
	}
	s.feed(l.num, in)
}
