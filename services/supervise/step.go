package supervise

import (
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
)

// The policy of coming back: at once the first time, then after 100 ms, twice that, and so on up
// to 30 s; a life that was up for 10 s pays the debt off.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
	stableLife = 10 * time.Second
	killEvery  = time.Second     // between two SIGKILLs to what does not die
	clearLimit = 2 * time.Second // what has SIGKILL pending runs no more code: go on without waiting for it
)

// service is the state of one service: a plain value, so that a step can be judged, compared
// and, one day, written down for the next PID 1.
type service struct {
	phase    phase
	since    time.Time // of the phase
	deadline time.Time // when the phase is over by itself; zero is never

	wanted bool // somebody asks for it
	going  bool // its end is asked for: it is no failure
	broken bool // it can never start: its file names a missing need or a cycle

	pid      int
	upSince  time.Time   // of this life; zero while it is not up
	last     proc.Status // how the latest life ended
	spoiled  bool        // the latest life ended otherwise than by a clean exit
	why      string      // of that end, in words
	tries    int         // lives begun since it was asked for
	lives    int         // lives begun ever
	failures int         // lives lost in a row without a stable one
}

// input is one thing that happened to one service: the event, and what it carries.
type input struct {
	event  event
	began  bool          // the process runs: event is none, pid is set
	pid    int           // with began
	status proc.Status   // with exit, if err is nil
	err    error         // with exit: the process could not be started
	empty  bool          // nothing of the service is left: event is none
	extend time.Duration // the service asks for more time: event is none
}

// act is what must be done outside, in the order given.
type act uint8

// The acts. Each fork is answered by one input with began or exit, each sweep by one with empty.
const (
	fork   act = iota
	term       // SIGTERM to the main process
	kill       // SIGKILL, to all of it or the main process as the kill mode says
	sweep      // kill what is left of it, and say when nothing is
	remove     // remove its empty cgroup
)

// step gives the state after in, and what to do about it. It is pure.
func step(at time.Time, sp *spec.Spec, s service, in input) (service, []act) {
	s, e := absorb(at, sp, s, in)
	if e == none || e == timer && (s.deadline.IsZero() || at.Before(s.deadline)) {
		return s, nil
	}
	to := next[s.phase][e]
	if to == stay {
		return s, nil
	}
	return enter(at, sp, s, to)
}

// absorb takes in the facts that in brings, whatever the phase, and names the event it amounts to.
func absorb(at time.Time, sp *spec.Spec, s service, in input) (service, event) {
	e := in.event
	switch {
	case in.began:
		s.pid = in.pid
		if sp.Type == spec.Simple && s.phase == starting {
			return s, ready
		}
	case in.extend > 0:
		if until := at.Add(in.extend); !s.deadline.IsZero() && until.After(s.deadline) && (s.phase == starting || s.phase == stopping) {
			s.deadline = until
		}
	case in.empty && s.phase == clearing, e == timer && s.phase == clearing && !at.Before(s.deadline):
		return verdict(sp, s)
	case e == want || e == restart:
		s.wanted = !s.broken
		if s.broken {
			return s, none
		}
		if s.phase.alive() && e == restart && s.phase != leaving {
			s.going = true
		} else {
			s.tries, s.failures = 0, 0
		}
	case e == stop:
		s.wanted = false
	case e == exit:
		s = ended(at, s, in)
	}
	return s, e
}

// ended books the end of a life.
func ended(at time.Time, s service, in input) service {
	s.pid, s.last = 0, in.status
	s.spoiled, s.why = in.err != nil || !in.status.OK(), in.status.String()
	switch {
	case in.err != nil:
		s.why = in.err.Error()
	case s.phase == killing && !s.going:
		s.why = "not up in time, " + s.why
		s.spoiled = true
	}
	if !s.upSince.IsZero() && at.Sub(s.upSince) >= stableLife {
		s.failures = 0
	}
	s.upSince = time.Time{}
	return s
}

// verdict decides what becomes of a service of which nothing is left.
func verdict(sp *spec.Spec, s service) (service, event) {
	switch {
	case !s.wanted:
		return s, rest
	case s.going:
		return s, now
	case s.spoiled && sp.Restart == spec.Never:
		return s, giveUp
	case !s.spoiled && (sp.Restart != spec.Always):
		return s, finish
	}
	s.failures++
	if s.failures == 1 {
		return s, now
	}
	return s, again
}

// pause is how long the service waits after its n-th failure in a row, from the second on.
func pause(failures int) time.Duration {
	d := firstPause
	for range failures - 2 {
		if d *= 2; d >= lastPause {
			return lastPause
		}
	}
	return d
}

// enter moves s into a phase and names what that asks for.
func enter(at time.Time, sp *spec.Spec, s service, to phase) (service, []act) {
	s.phase, s.since, s.deadline = to, at, time.Time{}
	switch to {
	case starting:
		s.tries++
		s.lives++
		if sp.StartTimeout > 0 && sp.Type != spec.Simple {
			s.deadline = at.Add(sp.StartTimeout)
		}
		return s, []act{fork}
	case up:
		s.upSince = at
	case leaving:
		s.going = true
	case stopping:
		s.deadline = at.Add(sp.StopTimeout)
		return s, []act{term}
	case killing:
		s.deadline = at.Add(killEvery)
		return s, []act{kill}
	case clearing:
		s.deadline = at.Add(clearLimit)
		return s, []act{sweep}
	case backoff:
		s.deadline = at.Add(pause(s.failures))
	case waiting:
		s.going = false
	case down, done, failed:
		s.going = false
		return s, []act{remove}
	}
	return s, nil
}
