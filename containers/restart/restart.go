// Package restart decides whether and when a container that ended is started again: by Docker's policies, with a pause
// before the next start, and by what a person asked for (stop, start, restart). It owns the records of containers,
// which last until power off. It never talks to the engine. Read Record first, then Next.
package restart

import (
	"time"

	"resinos/containers/app"
)

// Record is the manager's record of a container until power off. Times are since the kernel started, because the wall
// clock may jump. Two facts that the policy needs at the next boot are stored as marks of the container: that it stays
// ended (Stays), and that a person stopped it (Held).
type Record struct {
	Running bool          `json:"running"`
	Starts  int           `json:"starts"`
	Quick   int           `json:"quick"`           // ends in a row soon after the start
	First   time.Duration `json:"first,omitempty"` // the first of them
	Status  uint32        `json:"status"`          // of the last end
	OOM     bool          `json:"oom,omitempty"`   // the kernel killed it because memory ran out
	Started time.Duration `json:"started"`
	Ended   time.Duration `json:"ended"`
	Held    bool          `json:"held,omitempty"` // a person stopped it in this boot, so no policy starts it
	Asked   Wish          `json:"asked,omitempty"`
	Renew   bool          `json:"renew,omitempty"` // a person asked for a container of the image that is now there
}

// Wish is an order of a person that is not carried out yet.
type Wish string

// The wishes.
const (
	Nothing Wish = ""
	Start   Wish = "start"
	Restart Wish = "restart"
)

const (
	// FirstDelay is the pause before the second start; each further end soon after a start doubles it, up to
	// LastDelay.
	FirstDelay = 100 * time.Millisecond
	LastDelay  = time.Minute
	// Healthy is how long a program has to run for its end to count as the first one again.
	Healthy = 10 * time.Second
	// LostStatus is the status of an end that was not observed: 128 + SIGKILL.
	LostStatus = 137
)

// Begin returns r after a start. After a start by a person the counts begin again, as with docker.
func (r Record) Begin(now time.Duration) Record {
	if r.Asked != Nothing {
		r.Starts, r.Quick = 0, 0
	}
	r.Running, r.Started, r.Asked, r.Renew = true, now, Nothing, false
	r.Starts++
	return r
}

// End returns r after an end.
func (r Record) End(now time.Duration, status uint32) Record {
	switch {
	case now-r.Started >= Healthy || r.Held || r.Asked != Nothing: // an end on request is no crash
		r.Quick = 0
	case r.Quick == 0:
		r.Quick, r.First = 1, now
	default:
		r.Quick++
	}
	r.Running, r.Ended, r.Status, r.OOM = false, now, status, false
	return r.Adopted()
}

// Adopted returns r of a container that is running: an earlier manager may have died before it recorded the start.
func (r Record) Adopted() Record {
	r.Starts = max(r.Starts, 1)
	return r
}

// Stop returns r after a person asked for its end.
func (r Record) Stop() Record {
	r.Held, r.Asked = true, Nothing
	return r
}

// Ask returns r after a person asked for a start or a restart. The start of a running container is done already.
func (r Record) Ask(w Wish) Record {
	if w == Restart || !r.Running || r.Held { // it may be stopping
		r.Asked = w
	}
	r.Held = false
	return r
}

// Stays reports whether a container that was started stays ended at the next boot, until the app changes. The rules are
// Docker's at the start of its daemon. With `no` a container runs once, even if a power cut ended it. With on-failure a
// container that ended with 0 stays ended, also if the shutdown ended it; an end that was not observed counts as a
// failure.
func Stays(policy app.Policy, r Record) bool {
	switch policy {
	case app.Never:
		return r.Starts > 0
	case app.OnFailure:
		return r.Starts > 0 && !r.Running && r.Status == 0
	}
	return false
}

// Returns reports whether a boot starts a container with these marks: that it stays ended, and that a person stopped
// it. `always` ignores both, as Docker does at the start of its daemon; unless-stopped is named after the second. With
// on-failure only the status counts: a container that ended with another status than 0 when it was stopped is started
// again.
func Returns(policy app.Policy, stays, held bool) bool {
	switch policy {
	case app.Always:
		return true
	case app.UnlessStopped:
		return !held
	}
	return !stays
}

// Next returns whether the policy starts an ended container again, and the earliest time.
func Next(policy app.Restart, r Record) (time.Duration, bool) {
	if r.Held {
		return 0, false
	}
	switch policy.Policy {
	case app.Always, app.UnlessStopped:
	case app.OnFailure:
		if r.Status == 0 || policy.Limit > 0 && r.Starts > policy.Limit {
			return 0, false
		}
	default:
		return 0, false
	}
	return r.Ended + Backoff(FirstDelay, LastDelay, r.Quick-1), true
}

// Backoff returns first doubled n times, at most last; 0 if n is negative.
func Backoff(first, last time.Duration, n int) time.Duration {
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
