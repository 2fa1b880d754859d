package supervise

import (
	"cmp"
	"hash/fnv"
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
)

// service is the state of one service: a plain value, so that a step can be judged, compared
// and written down for the next life of PID 1.
type service struct {
	phase    phase
	since    time.Time // of the phase
	deadline time.Time // when the phase is over by itself; zero is never
	epoch    time.Time // when the kernel started: timers count from there
	seed     uint32    // of the device, so that not all of a fleet get the same random delay

	wanted    bool // somebody asks for it
	going     bool // its end is asked for: it is no failure
	broken    bool // it can never start: its file names a missing need or a cycle, or masks it
	missed    bool // what it waits for happened while it ran
	soon      bool // it starts next without waiting for its demand: a person has restarted it
	reloading bool // it said RELOADING=1 and not yet READY=1
	silent    bool // it is up, and its sign of life is late

	pid      int
	upSince  time.Time   // of this life; zero while it is not up
	began    time.Time   // the latest life; zero before the first
	last     proc.Status // how the latest life ended
	spoiled  bool        // the latest life ended otherwise than by a clean exit
	blame    string      // why it is being killed, when nobody asked for it
	why      string      // of the latest end, in words
	tries    int         // lives begun since it was asked for
	lives    int         // lives begun ever
	failures int         // lives lost in a row without a stable one

	window time.Time // when the counting of GiveUp began
	losses int       // lives lost since then
}

// ended books the end of a life.
func ended(at time.Time, sp *spec.Spec, s service, in input) service {
	s.pid, s.last, s.reloading = 0, in.status, false
	s.spoiled, s.why = in.err != nil || !in.status.OK(), in.status.String()
	switch {
	case in.err != nil:
		s.why = in.err.Error()
	case in.why != "":
		s.why += " (" + in.why + ")"
	}
	if s.blame != "" && !s.going {
		s.why, s.spoiled = s.blame+", "+s.why, true
	}
	s.blame = ""
	if !s.upSince.IsZero() && at.Sub(s.upSince) >= stableLife {
		s.failures = 0
	}
	s.upSince = time.Time{}
	if s.going {
		return s
	}
	if at.Sub(s.window) > sp.GiveUp.Within {
		s.window, s.losses = at, 0
	}
	s.losses++
	return s
}

// verdict decides what becomes of a service of which nothing is left.
func verdict(sp *spec.Spec, s service) (service, event) {
	switch {
	case !s.wanted:
		return s, rest
	case s.going:
		return s, now
	case !s.spoiled && rearms(sp), s.spoiled && sp.Restart == spec.Never && rearms(sp):
		return s, idle
	case s.spoiled && sp.Restart == spec.Never:
		return s, giveUp
	case !s.spoiled && sp.Restart != spec.Always:
		return s, finish
	case sp.GiveUp.Lives > 0 && s.losses >= sp.GiveUp.Lives:
		s.why += tooOften(sp.GiveUp)
		return s, giveUp
	}
	s.failures++
	if s.failures == 1 {
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

// onDemand reports whether the service waits in phase armed before it starts. With one process a
// connection there is no main process to start: the service itself is up when it accepts.
func onDemand(sp *spec.Spec) bool { return sp.Start == spec.OnDemand && !sp.Listen.Each }

// rearms reports whether a service that has ended waits for another demand.
func rearms(sp *spec.Spec) bool {
	return onDemand(sp) && (len(sp.Listen.Sockets) > 0 || len(sp.WatchPaths) > 0 || sp.Timer.Every > 0)
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
func nextTimer(at time.Time, sp *spec.Spec, s service) time.Time {
	var due time.Time
	switch t := sp.Timer; {
	case s.began.IsZero() && t.AfterBoot > 0:
		due = s.epoch.Add(t.AfterBoot)
	case s.began.IsZero() && t.Every > 0:
		due = at.Add(t.Every)
	case t.Every > 0:
		due = s.began.Add(t.Every)
	default:
		return time.Time{}
	}
	due = due.Add(spread(sp, s))
	if due.Before(at) {
		return at
	}
	return due
}

// spread is the random delay of the next start: the same for the same device, service and life,
// so that a re-exec does not draw again.
func spread(sp *spec.Spec, s service) time.Duration {
	if sp.Timer.Spread <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte{byte(s.seed), byte(s.seed >> 8), byte(s.seed >> 16), byte(s.seed >> 24)})
	h.Write([]byte(sp.Name))
	h.Write([]byte{byte(s.lives), byte(s.lives >> 8), byte(s.lives >> 16), byte(s.lives >> 24)})
	return time.Duration(h.Sum64() % uint64(sp.Timer.Spread))
}
