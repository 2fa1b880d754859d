// Package restart owns what becomes of a container that ended: the policies of Docker, the pause before the next
// start, and what is remembered of a container until power off. What a person asked for (stop, start, restart) is
// part of that. It never talks to the engine. Read Record first, then Next.
package restart

import (
	"time"

	"resinos/containers/app"
)

// Record is what the manager remembers of a container until power off. Times are since the kernel
// started: the wall clock may jump. What the policy needs of it at the next boot is kept beside the container:
// that it stays ended (Stays), and that a person stopped it (Held).
type Record struct {
	Running bool          `json:"running"`
	Starts  int           `json:"starts"`
	Quick   int           `json:"quick"`           // ends in a row that came soon after the start
	First   time.Duration `json:"first,omitempty"` // the first of them
	Status  uint32        `json:"status"`          // of the last end
	OOM     bool          `json:"oom,omitempty"`   // the last end was for want of memory
	Started time.Duration `json:"started"`
	Ended   time.Duration `json:"ended"`
	Held    bool          `json:"held,omitempty"` // a person stopped it in this boot: no policy starts it
	Asked   Wish          `json:"asked,omitempty"`
	Renew   bool          `json:"renew,omitempty"` // a person asked for a container of the image that is there now
}

// Wish is what a person asked for and has not got yet.
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
	// LostStatus stands for an end that nobody saw: 128 + SIGKILL.
	LostStatus = 137
)

// Begin returns r after a start. One that a person asked for counts from the beginning, as docker's does.
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
	case now-r.Started >= Healthy || r.Held || r.Asked != Nothing: // an end that was asked for is no crash
		r.Quick = 0
	case r.Quick == 0:
		r.Quick, r.First = 1, now
	default:
		r.Quick++
	}
	r.Running, r.Ended, r.Status, r.OOM = false, now, status, false
	return r.Adopted()
}

// Adopted returns r of a container that was started: an earlier manager may have died before it noted so.
func (r Record) Adopted() Record {
	r.Starts = max(r.Starts, 1)
	return r
}

// Stop returns r after a person asked for its end.
func (r Record) Stop() Record {
	r.Held, r.Asked = true, Nothing
	return r
}

// Ask returns r after a person asked for a start or a restart. The start of what runs is done already.
func (r Record) Ask(w Wish) Record {
	if w == Restart || !r.Running || r.Held { // a stop may be under way
		r.Asked = w
	}
	r.Held = false
	return r
}

// Stays says of a container that was started whether it stays ended when the device comes up again, until
// the app changes. It is what Docker does at the start of its daemon: with `no` a container runs once, be it
// that the power was cut meanwhile; with on-failure one that ended well stays ended, also if it did so when
// the device went down, and one whose end nobody saw has failed.
func Stays(policy app.Policy, r Record) bool {
	switch policy {
	case app.Never:
		return r.Starts > 0
	case app.OnFailure:
		return r.Starts > 0 && !r.Running && r.Status == 0
	}
	return false
}

// Returns says whether the device starts a container when it comes up, of which is kept that it stays ended, or
// that a person stopped it: `always` forgets both, as Docker does at the start of its daemon, and unless-stopped is
// named after the second. With on-failure only the status counts: one that ended badly when it was stopped is
// started again.
func Returns(policy app.Policy, stays, held bool) bool {
	switch policy {
	case app.Always:
		return true
	case app.UnlessStopped:
		return !held
	}
	return !stays
}

// Next says whether the policy starts an ended container again, and not before when.
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

// Backoff doubles first n times, up to last; n below 0 is no wait.
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
