package supervise

import (
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
)

// The policy of coming back, where a service file says nothing else: at once the first time, then
// after 100 ms, twice that, and so on up to 30 s; a life that was up for 10 s pays the debt off.
const (
	firstPause = spec.DefaultRestartPause
	lastPause  = spec.DefaultRestartLimit
	stableLife = 10 * time.Second
	changeGap  = time.Second     // between two starts for changes of paths: what changes meanwhile is one change
	killEvery  = time.Second     // between two SIGKILLs to what does not die
	clearLimit = 2 * time.Second // what has SIGKILL pending runs no more code: go on without waiting for it
)

// input is one thing that happened to one service: the event, and what it carries.
type input struct {
	event     event
	began     bool          // the process runs: event is none, pid is set
	pid       int           // with began; alone, the number of its new main process (MAINPID)
	status    proc.Status   // with exit, if err is nil
	err       error         // with exit: the process could not be started
	why       string        // with exit, skip and sick: the reason in words
	empty     bool          // nothing of the service is left: event is none
	extend    time.Duration // the service asks for more time: event is none
	alive     bool          // the service sent WATCHDOG=1: event is none
	reloading bool          // the service reloads: event is none
}

// act is what must be done outside, in the order given.
type act uint8

// The acts. Each fork is answered by one input with began, skip or exit, each sweep by one with
// empty. An arm may be answered by exit, its sockets cannot be had, or by skip, a condition forbids them.
const (
	fork   act = iota
	arm        // wait for traffic or a change of its paths, and say fire
	term       // the stop signal to the main process
	kill       // SIGKILL, to all of it or the main process as the kill mode says
	sweep      // kill what is left of it, and say when nothing is
	remove     // remove its empty cgroup
	shut       // close its sockets, and what it left with us if nobody asks for it any more
	numActs
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
	if s.phase == armed && e != lost && e != exit && e != skip {
		s.soon = true // what it waited for is there
	}
	return enter(at, sp, accuse(sp, s, in, e), to, e)
}

// absorb takes in the facts that in brings, whatever the phase, and names the event it amounts to.
func absorb(at time.Time, sp *spec.Spec, s service, in input) (service, event) {
	e := in.event
	switch {
	case in.began:
		s.pid = in.pid
		if s.phase == starting && (sp.Listen.Each || sp.Type == spec.Simple && !sp.Ready.Set()) {
			return s, ready
		}
	case e == none && in.pid != 0:
		s.pid = in.pid
	case in.alive && s.phase == up && sp.WatchdogEvery > 0:
		s.deadline, s.silent = at.Add(sp.WatchdogEvery), false
	case e == timer && s.phase == up && sp.WatchdogEvery == 0:
		s.deadline = time.Time{} // its file has a watchdog no more
		return s, none
	case e == timer && s.phase == up && !s.silent && !s.deadline.IsZero() && !at.Before(s.deadline):
		// The clock may have jumped over the service's next sign: the device was suspended, or its virtual machine stopped. Or
		// both of us had no processor. So it has this long to give one while we can hear it.
		s.deadline, s.silent = at.Add(lastCall(sp)), true
		return s, none
	case in.reloading && s.phase == up:
		s.reloading = true
	case in.extend > 0:
		return extended(at, s, in.extend), e
	case in.empty && s.phase == clearing, e == timer && s.phase == clearing && !at.Before(s.deadline):
		return verdict(sp, s)
	case e == want || e == restart:
		return asked(s, e)
	case e == stop:
		s.wanted = false
	case e == clear && s.phase == waiting && onDemand(sp) && s.failures == 0 && !s.soon:
		return s, idle
	case e == ready:
		s.reloading = false
	case e == fire && s.phase != armed:
		s.missed = true // it is looked at again when the service is done with what it does
	case e == fire && at.Before(nextChange(sp, s)):
		s.missed, s.deadline = true, nextChange(sp, s)
		return s, none
	case e == skip:
		if s.why = in.why; onDemand(sp) && len(sp.Listen.Sockets) == 0 {
			return s, idle // traffic would come back at once, a change or an hour does not
		}
	case e == exit:
		s = ended(at, sp, s, in)
	}
	return s, e
}

// lastCall is how much longer a service is waited for that has given no sign of life in time.
func lastCall(sp *spec.Spec) time.Duration { return sp.WatchdogEvery / 2 }

// asked books that somebody wants the service, for the first time or anew.
func asked(s service, e event) (service, event) {
	s.wanted = !s.broken
	if s.broken {
		return s, none
	}
	if s.phase.alive() && e == restart && s.phase != leaving {
		s.going, s.soon = true, true
	} else {
		s.tries, s.failures, s.losses = 0, 0, 0
	}
	return s, e
}

// extended gives a service that asks for it more time to start or to stop.
func extended(at time.Time, s service, by time.Duration) service {
	until := at.Add(by)
	if !s.deadline.IsZero() && until.After(s.deadline) && (s.phase == starting || s.phase == stopping) {
		s.deadline = until
	}
	return s
}

// accuse notes why a service that nobody asked to go is about to be ended.
func accuse(sp *spec.Spec, s service, in input, e event) service {
	switch {
	case e == sick:
		s.blame = in.why
	case e == timer && s.phase == starting:
		s.blame = "not up in time"
	case e == timer && s.phase == up:
		s.blame = "no sign of life for " + (sp.WatchdogEvery + lastCall(sp)).String()
	case e == timer && s.phase == stopping && s.blame == "":
		s.blame = "did not stop within " + sp.StopTimeout.String()
	}
	return s
}

// enter moves s into a phase and names what that asks for.
func enter(at time.Time, sp *spec.Spec, s service, to phase, e event) (service, []act) {
	s.phase, s.since, s.deadline = to, at, time.Time{}
	switch to {
	case armed:
		return enterArmed(at, sp, s)
	case starting:
		s.tries++
		s.lives++
		s.began, s.missed, s.soon = at, false, false
		if sp.StartTimeout > 0 && (sp.Type != spec.Simple || sp.Ready.Set()) {
			s.deadline = at.Add(sp.StartTimeout)
		}
		if len(sp.WatchPaths) > 0 { // a change while it runs counts, from its first moment on: what it has read by then is old
			return s, []act{arm, fork}
		}
		return s, []act{fork}
	case up:
		s.upSince, s.silent = at, false
		if sp.WatchdogEvery > 0 {
			s.deadline = at.Add(sp.WatchdogEvery)
		}
	case leaving:
		s.going = true
	case stopping:
		s.deadline = at.Add(sp.StopTimeout)
		if e == quits {
			return s, nil
		}
		return s, []act{term}
	case killing:
		s.deadline = at.Add(killEvery)
		return s, []act{kill}
	case clearing:
		s.deadline = at.Add(clearLimit)
		return s, []act{sweep}
	case backoff:
		s.deadline = at.Add(pause(sp, s.failures))
	case waiting:
		s.going = false
	case down, done, failed, skipped:
		s.going, s.soon = false, false
		if sp.Demand() || sp.FDStore > 0 {
			return s, []act{remove, shut}
		}
		return s, []act{remove}
	}
	return s, nil
}

// nextChange is when changes of paths may start the service again: somebody may write a file many times a second, and wants it read once.
// Traffic does not wait.
func nextChange(sp *spec.Spec, s service) time.Time {
	if len(sp.WatchPaths) == 0 || len(sp.Listen.Sockets) > 0 || s.began.IsZero() {
		return time.Time{}
	}
	return s.began.Add(changeGap)
}

func enterArmed(at time.Time, sp *spec.Spec, s service) (service, []act) {
	s.going, s.failures = false, 0
	if s.deadline = nextTimer(at, sp, s); s.missed {
		s.deadline = at
		if next := nextChange(sp, s); next.After(at) {
			s.deadline = next
		}
	}
	if len(sp.Listen.Sockets) == 0 && len(sp.WatchPaths) == 0 {
		return s, nil
	}
	return s, []act{arm}
}
