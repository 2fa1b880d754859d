package lifecycle

import (
	"cmp"
	"hash/fnv"
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
)

// Service is the state of one service. It is a plain value, which can be compared in tests and saved for the next life
// of PID 1.
type Service struct {
	Phase    Phase
	Since    time.Time // of the phase
	Deadline time.Time // when the phase is over by itself; zero is never
	Epoch    time.Time // when the kernel started: timers count from there
	Seed     uint32    // of the device, so that not all of a fleet get the same random delay

	Wanted    bool // it is requested
	Going     bool // its end was requested, so it is no failure
	Broken    bool // it can never start: its file names a missing need or a cycle, or masks it
	Missed    bool // its demand happened while it ran
	Soon      bool // it starts next without waiting for its demand: a person has restarted it
	Reloading bool // it has sent RELOADING=1 and not yet READY=1
	silent    bool // it is up, and its watchdog message is late

	PID      int
	UpSince  time.Time   // of this life; zero while it is not up
	Began    time.Time   // the latest life; zero before the first
	Last     proc.Status // how the latest life ended
	Spoiled  bool        // the latest life ended otherwise than by a clean exit
	Blame    string      // why it is being killed without a request
	Why      string      // of the latest end, in words
	Tries    int         // lives begun since it was requested
	Lives    int         // lives begun ever
	Failures int         // lives lost in a row without a stable one

	Window time.Time // when the counting of GiveUp began
	Losses int       // lives lost since then
}

// ended records the end of a life.
func ended(at time.Time, sp *spec.Spec, s Service, in Input) Service {
	s.PID, s.Last, s.Reloading = 0, in.Status, false
	s.Spoiled, s.Why = in.Err != nil || !in.Status.OK(), in.Status.String()
	switch {
	case in.Err != nil:
		s.Why = in.Err.Error()
	case in.Why != "":
		s.Why += " (" + in.Why + ")"
	}
	if s.Blame != "" && !s.Going {
		s.Why, s.Spoiled = s.Blame+", "+s.Why, true
	}
	s.Blame = ""
	if !s.UpSince.IsZero() && at.Sub(s.UpSince) >= StableLife {
		s.Failures = 0
	}
	s.UpSince = time.Time{}
	if s.Going {
		return s
	}
	if at.Sub(s.Window) > sp.GiveUp.Within {
		s.Window, s.Losses = at, 0
	}
	s.Losses++
	return s
}

// verdict decides the next event of a service whose processes have all ended.
func verdict(sp *spec.Spec, s Service) (Service, Event) {
	switch {
	case !s.Wanted:
		return s, rest
	case s.Going:
		return s, now
	case !s.Spoiled && Rearms(sp), s.Spoiled && sp.Restart == spec.Never && Rearms(sp):
		return s, idle
	case s.Spoiled && sp.Restart == spec.Never:
		return s, giveUp
	case !s.Spoiled && sp.Restart != spec.Always:
		return s, finish
	case sp.GiveUp.Lives > 0 && s.Losses >= sp.GiveUp.Lives:
		s.Why += tooOften(sp.GiveUp)
		return s, giveUp
	}
	s.Failures++
	if s.Failures == 1 {
		return s, now
	}
	return s, again
}

func tooOften(g spec.GiveUp) string {
	if g.Lives == 1 {
		return "; given up after one life"
	}
	return "; given up: lost too often within " + g.Within.String()
}

// OnDemand reports whether the service waits in phase armed before it starts. With one process a
// connection there is no main process to start: the service itself is up when it accepts.
func OnDemand(sp *spec.Spec) bool { return sp.Start == spec.OnDemand && !sp.Listen.Each }

// Rearms reports whether a service that has ended waits for another demand. One that starts at boot does so after a
// clean end, if that is no reason to restart it.
func Rearms(sp *spec.Spec) bool {
	return (OnDemand(sp) || sp.Start == spec.AtBoot && sp.Restart == spec.OnFailure && !sp.Listen.Each) &&
		(len(sp.Listen.Sockets) > 0 || sp.ListenStored || len(sp.WatchPaths) > 0 || sp.Timer.Every > 0)
}

// pause is how long the service waits after its n-th failure in a row, from the second on.
func pause(sp *spec.Spec, failures int) time.Duration {
	d, limit := cmp.Or(sp.RestartPause, firstPause), cmp.Or(sp.RestartLimit, lastPause)
	for range failures - 2 {
		if d *= 2; d >= limit {
			break
		}
	}
	return min(d, limit)
}

// nextTimer is when the timer of s starts it next; zero is never.
func nextTimer(at time.Time, sp *spec.Spec, s Service) time.Time {
	var due time.Time
	switch t := sp.Timer; {
	case s.Began.IsZero() && t.AfterBoot > 0:
		due = s.Epoch.Add(t.AfterBoot)
	case s.Began.IsZero() && t.Every > 0:
		due = at.Add(t.Every)
	case t.Every > 0:
		due = s.Began.Add(t.Every)
	default:
		return time.Time{}
	}
	due = due.Add(spread(sp, s))
	if due.Before(at) {
		return at
	}
	return due
}

// spread is the random delay of the next start: the same for the same device, service and life, so that a re-exec does
// not change it.
func spread(sp *spec.Spec, s Service) time.Duration {
	if sp.Timer.Spread <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte{byte(s.Seed), byte(s.Seed >> 8), byte(s.Seed >> 16), byte(s.Seed >> 24)})
	h.Write([]byte(sp.Name))
	h.Write([]byte{byte(s.Lives), byte(s.Lives >> 8), byte(s.Lives >> 16), byte(s.Lives >> 24)})
	return time.Duration(h.Sum64() % uint64(sp.Timer.Spread))
}
