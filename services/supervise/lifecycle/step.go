package lifecycle

import (
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
)

// The restart policy, unless a service file sets another one: the first restart is immediate, the second follows after
// 100 ms, each further one after twice the pause, up to 30 s. A life that was up for 10 s resets the pauses.
const (
	firstPause = spec.DefaultRestartPause
	lastPause  = spec.DefaultRestartLimit
	StableLife = 10 * time.Second
	changeGap  = time.Second     // between two starts for changes of paths: all changes within it count as one
	killEvery  = time.Second     // between two SIGKILLs to processes that do not die
	clearLimit = 2 * time.Second // a process with a pending SIGKILL runs no more code, so nothing waits longer for it
)

// Input is one input about one service: an event with its details, or one of the facts below.
type Input struct {
	Event     Event
	Began     bool          // the process runs: event is none, pid is set
	PID       int           // with began; alone, the number of its new main process (MAINPID)
	Status    proc.Status   // with exit, if err is nil
	Err       error         // with exit: the process could not be started
	Why       string        // with exit, skip and sick: the reason in words
	Empty     bool          // no process of the service is left: event is none
	Extend    time.Duration // the service asks for more time: event is none
	Alive     bool          // the service sent WATCHDOG=1: event is none
	Reloading bool          // the service reloads: event is none
}

// Act is an act that the supervisor must carry out, in the given order.
type Act uint8

// The acts. Each Fork is answered by one input with Began, Skip or Exit, each Sweep by one with Empty. An Arm may be
// answered by Exit, if its sockets cannot be opened, or by Skip, if a condition does not hold.
const (
	Fork   Act = iota
	Arm        // wait for traffic or a change of its paths, and send Fire
	Term       // the stop signal to the main process
	Kill       // SIGKILL, to all processes or the main process, by the kill mode
	Sweep      // kill its remaining processes, and report when none is left
	Remove     // remove its empty cgroup
	Shut       // close its sockets, and its stored descriptors if it is not requested any more
)

// Step returns the state after in, and the acts that follow. It is pure.
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
		s.Soon = true // its demand has happened
	}
	return enter(at, sp, accuse(sp, s, in, e), to, e)
}

// absorb records the facts of in, in any phase, and returns the event that follows from them.
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
		s.Deadline = time.Time{} // its file no longer has a watchdog
		return s, None
	case e == Timer && s.Phase == Up && !s.silent && !s.Deadline.IsZero() && !at.Before(s.Deadline):
		// The clock may have jumped over the service's next message: the device was suspended, or its virtual machine
		// was paused. Or neither the service nor PID 1 had a processor. The service therefore has this long to send one
		// now.
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
		s.Missed = true // it is handled when the service has ended
	case e == Fire && at.Before(nextChange(sp, s)):
		s.Missed, s.Deadline = true, nextChange(sp, s)
		return s, None
	case e == Skip:
		if s.Why = in.Why; OnDemand(sp) && len(sp.Listen.Sockets) == 0 {
			return s, idle // traffic is reported again at once, a change of a path or a timer is not
		}
	case e == Exit:
		s = ended(at, sp, s, in)
	}
	return s, e
}

// lastCall is how much longer PID 1 waits for a late watchdog message.
func lastCall(sp *spec.Spec) time.Duration { return sp.WatchdogEvery / 2 }

// asked records a request for the service, the first or a further one.
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

// accuse records why a service is about to be ended without a request.
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

// enter moves s into a phase and returns the acts that follow.
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
		// a change counts from the moment the process starts, because it may already have read the old content
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

// nextChange returns when changes of paths may start the service again: a file that is written many times a second is
// to be read once. Traffic does not wait.
func nextChange(sp *spec.Spec, s Service) time.Time {
	if len(sp.WatchPaths) == 0 || len(sp.Listen.Sockets) > 0 || sp.ListenStored || s.Began.IsZero() {
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
	if len(sp.Listen.Sockets) == 0 && !sp.ListenStored && len(sp.WatchPaths) == 0 {
		return s, nil
	}
	return s, []Act{Arm}
}
