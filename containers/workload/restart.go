package workload

import (
	"time"

	"resinos/containers/app"
)

// Record is what the manager remembers of a container until power off. Times are since the kernel
// started: the wall clock may jump. What the policy needs of it at the next boot is one bit, stays, which
// is kept beside the container.
type Record struct {
	Running bool          `json:"running"`
	Starts  int           `json:"starts"`
	Quick   int           `json:"quick"`         // ends in a row that came soon after the start
	Status  uint32        `json:"status"`        // of the last end
	OOM     bool          `json:"oom,omitempty"` // the last end was for want of memory
	Started time.Duration `json:"started"`
	Ended   time.Duration `json:"ended"`
}

const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	// healthy is how long a program has to run for its end to count as the first one again.
	healthy = 10 * time.Second
	// lostStatus stands for an end that nobody saw: 128 + SIGKILL.
	lostStatus = 137
)

// started returns r after a start.
func (r Record) started(now time.Duration) Record {
	r.Running, r.Started = true, now
	r.Starts++
	return r
}

// ended returns r after an end.
func (r Record) ended(now time.Duration, status uint32) Record {
	if now-r.Started >= healthy {
		r.Quick = 0
	} else {
		r.Quick++
	}
	r.Running, r.Ended, r.Status, r.OOM = false, now, status, false
	return r.adopted()
}

// adopted returns r of a container that was started: an earlier manager may have died before it noted so.
func (r Record) adopted() Record {
	r.Starts = max(r.Starts, 1)
	return r
}

// stays says of a container that was started whether it stays ended when the device comes up again, until
// the app changes. It is what Docker does at the start of its daemon: with `no` a container runs once, be it
// that the power was cut meanwhile; with on-failure one that ended well stays ended, also if it did so when
// the device went down, and one whose end nobody saw has failed.
func stays(policy app.Policy, r Record) bool {
	switch policy {
	case app.Never:
		return r.Starts > 0
	case app.OnFailure:
		return r.Starts > 0 && !r.Running && r.Status == 0
	}
	return false
}

// next says whether the policy starts an ended container again, and not before when.
func next(policy app.Restart, r Record) (time.Duration, bool) {
	switch policy.Policy {
	case app.Always, app.UnlessStopped:
	case app.OnFailure:
		if r.Status == 0 || policy.Limit > 0 && r.Starts > policy.Limit {
			return 0, false
		}
	default:
		return 0, false
	}
	return r.Ended + backoff(firstDelay, lastDelay, r.Quick-1), true
}

// backoff doubles first n times, up to last; n below 0 is no wait.
func backoff(first, last time.Duration, n int) time.Duration {
	if n < 0 {
		return 0
	}
	d := first
	for range n {
		if d *= 2; d >= last {
			return last
		}
	}
	return d
}
