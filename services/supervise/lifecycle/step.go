package lifecycle

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
	StableLife = 10 * time.Second
	changeGap  = time.Second     // between two starts for changes of paths: what changes meanwhile is one change
	killEvery  = time.Second     // between two SIGKILLs to what does not die
	clearLimit = 2 * time.Second // what has SIGKILL pending runs no more code: go on without waiting for it
)

// Input is one thing that happened to one service: the event, and what it carries.
type Input struct {
	Event     Event
	Began     bool          // the process runs: event is none, pid is set
	PID       int           // with began; alone, the number of its new main process (MAINPID)
	Status    proc.Status   // with exit, if err is nil
	Err       error         // with exit: the process could not be started
	Why       string        // with exit, skip and sick: the reason in words
	Empty     bool          // nothing of the service is left: event is none
	Extend    time.Duration // the service asks for more time: event is none
	Alive     bool          // the service sent WATCHDOG=1: event is none
	Reloading bool          // the service reloads: event is none
}

// Act is what must be done outside, in the order given.
type Act uint8

// The acts. Each fork is answered by one input with began, skip or exit, each sweep by one with
// empty. An arm may be answered by exit, its sockets cannot be had, or by skip, a condition forbids them.
const (
	Fork   Act = iota
	Arm        // wait for traffic or a change of its paths, and say fire
	Term       // the stop signal to the main process
	Kill       // SIGKILL, to all of it or the main process as the kill mode says
	Sweep      // kill what is left of it, and say when nothing is
	Remove     // remove its empty cgroup
	Shut       // close its sockets, and what it left with us if nobody asks for it any more
)

// Step gives the state after in, and what to do about it. It is pure.
func Step(at time.Time, sp *spec.Spec, s Service, in Input) (Service, []Act) {
	s, e := absorb(at, sp, s, in)
	if e == None || e == Timer && (s.Deadline.IsZero() || at.Before(s.Deadline)) {
		return s, nil
	}
	to := next[s.Phase][e]
	if to == stay {
		return s, nil
	}
	if s.Phase == Armed && e != Lost && e != Exit && e != Skip {
		s.Soon = true // what it waited for is there
	}
	return enter(at, sp, accuse(sp, s, in, e), to, e)
}

// absorb takes in the facts that in brings, whatever the phase, and names the event it amounts to.
func absorb(at time.Time, sp *spec.Spec, s Service, in Input) (Service, Event) {
	e := in.Event
	switch {
	case in.Began:
		s.PID = in.PID
		if s.Phase == Starting && (sp.Listen.Each || sp.Type == spec.Simple && !sp.Ready.Set()) {
			return s, Ready
		}
	case e == None && in.PID != 0:
		s.PID = in.PID
	case in.Alive && s.Phase == Up && sp.WatchdogEvery > 0:
		s.Deadline, s.silent = at.Add(sp.WatchdogEvery), false
	case e == Timer && s.Phase == Up && sp.WatchdogEvery == 0:
		s.Deadline = time.Time{} // its file has a watchdog no more
		return s, None
	case e == Timer && s.Phase == Up && !s.silent && !s.Deadline.IsZero() && !at.Before(s.Deadline):
		// The clock may have jumped over the service's next sign: the device was suspended, or its virtual machine
		// stopped. Or both of us had no processor. So it has this long to give one while we can hear it.
		s.Deadline, s.silent = at.Add(lastCall(sp)), true
		return s, None
	case in.Reloading && s.Phase == Up:
		s.Reloading = true
	case in.Extend > 0:
		return extended(at, s, in.Extend), e
	case in.Empty && s.Phase == Clearing, e == Timer && s.Phase == Clearing && !at.Before(s.Deadline):
		return verdict(sp, s)
	case e == Want || e == Restart:
		return asked(s, e)
	case e == Stop:
		s.Wanted = false
	case e == Clear && s.Phase == Waiting && OnDemand(sp) && s.Failures == 0 && !s.Soon:
		return s, idle
	case e == Ready:
		s.Reloading = false
	case e == Fire && s.Phase != Armed:
		s.Missed = true // it is looked at again when the service is done with what it does
	case e == Fire && at.Before(nextChange(sp, s)):
		s.Missed, s.Deadline = true, nextChange(sp, s)
		return s, None
	case e == Skip:
		if s.Why = in.Why; OnDemand(sp) && len(sp.Listen.Sockets) == 0 {
			return s, idle // traffic would come back at once, a change or an hour does not
		}
	case e == Exit:
		s = ended(at, sp, s, in)
	}
	return s, e
}

// lastCall is how much longer a service is waited for whose watchdog message is late.
func lastCall(sp *spec.Spec) time.Duration { return sp.WatchdogEvery / 2 }

// asked books that somebody wants the service, for the first time or anew.
func asked(s Service, e Event) (Service, Event) {
	s.Wanted = !s.Broken
	if s.Broken {
		return s, None
	}
	if s.Phase.Alive() && e == Restart && s.Phase != Leaving {
		s.Going, s.Soon = true, true
	} else {
		s.Tries, s.Failures, s.Losses = 0, 0, 0
	}
	return s, e
}

// extended gives a service that asks for it more time to start or to stop.
func extended(at time.Time, s Service, by time.Duration) Service {
	until := at.Add(by)
	if !s.Deadline.IsZero() && until.After(s.Deadline) && (s.Phase == Starting || s.Phase == Stopping) {
		s.Deadline = until
	}
	return s
}

// accuse notes why a service that nobody asked to go is about to be ended.
func accuse(sp *spec.Spec, s Service, in Input, e Event) Service {
	switch {
	case e == Sick:
		s.Blame = in.Why
	case e == Timer && s.Phase == Starting:
		s.Blame = "not up in time"
	case e == Timer && s.Phase == Up:
		s.Blame = "no watchdog message for " + (sp.WatchdogEvery + lastCall(sp)).String()
	case e == Timer && s.Phase == Stopping && s.Blame == "":
		s.Blame = "did not stop within " + sp.StopTimeout.String()
	}
	return s
}

// enter moves s into a phase and names what that asks for.
func enter(at time.Time, sp *spec.Spec, s Service, to Phase, e Event) (Service, []Act) {
	s.Phase, s.Since, s.Deadline = to, at, time.Time{}
	switch to {
	case Armed:
		return enterArmed(at, sp, s)
	case Starting:
		s.Tries++
		s.Lives++
		s.Began, s.Missed, s.Soon = at, false, false
		if sp.StartTimeout > 0 && (sp.Type != spec.Simple || sp.Ready.Set()) {
			s.Deadline = at.Add(sp.StartTimeout)
		}
		// a change while it runs counts, from its first moment on: what it has read by then is old
		if len(sp.WatchPaths) > 0 {
			return s, []Act{Arm, Fork}
		}
		return s, []Act{Fork}
	case Up:
		s.UpSince, s.silent = at, false
		if sp.WatchdogEvery > 0 {
			s.Deadline = at.Add(sp.WatchdogEvery)
		}
	case Leaving:
		s.Going = true
	case Stopping:
		s.Deadline = at.Add(sp.StopTimeout)
		if e == Quits {
			return s, nil
		}
		return s, []Act{Term}
	case Killing:
		s.Deadline = at.Add(killEvery)
		return s, []Act{Kill}
	case Clearing:
		s.Deadline = at.Add(clearLimit)
		return s, []Act{Sweep}
	case Backoff:
		s.Deadline = at.Add(pause(sp, s.Failures))
	case Waiting:
		s.Going = false
	case Down, Done, Failed, Skipped:
		s.Going, s.Soon = false, false
		if sp.Demand() || sp.FDStore > 0 {
			return s, []Act{Remove, Shut}
		}
		return s, []Act{Remove}
	}
	return s, nil
}

// nextChange is when changes of paths may start the service again: somebody may write a file many times a second, and
// wants it read once. Traffic does not wait.
func nextChange(sp *spec.Spec, s Service) time.Time {
	if len(sp.WatchPaths) == 0 || len(sp.Listen.Sockets) > 0 || s.Began.IsZero() {
		return time.Time{}
	}
	return s.Began.Add(changeGap)
}

func enterArmed(at time.Time, sp *spec.Spec, s Service) (Service, []Act) {
	s.Going, s.Failures = false, 0
	if s.Deadline = nextTimer(at, sp, s); s.Missed {
		s.Deadline = at
		if next := nextChange(sp, s); next.After(at) {
			s.Deadline = next
		}
	}
	if len(sp.Listen.Sockets) == 0 && len(sp.WatchPaths) == 0 {
		return s, nil
	}
	return s, []Act{Arm}
}
