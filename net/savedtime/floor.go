// Package savedtime owns the time that a device uses until it knows the right time: the saved time, which outlives the
// boot, and the choice between it, the build time and the hardware clock. It never sets a clock. Read Floor first.
package savedtime

import (
	"time"

	"resinos/net/clockstatus"
)

// Horizon is how long after its build an image may still run. A later time is garbage: empty hardware clocks show 1970,
// 2000, 2066 or 2099, and root certificates expire earlier.
const Horizon = 30 * 365 * 24 * time.Hour

// Plausible reports whether t can be the time on a device whose image was built at build. A zero build excludes only a
// zero t.
func Plausible(build, t time.Time) bool {
	if build.IsZero() {
		return !t.IsZero()
	}
	return !t.Before(build) && t.Before(build.Add(Horizon))
}

// savedLead is how far a saved time is believed beyond a running hardware clock. No clock with a battery loses a day
// between two boots. A person who sets the clock further ahead by hand has made a mistake, or sets the hardware clock
// too.
const savedLead = 24 * time.Hour

// Floor returns the time at which a device begins: the latest of the plausible times, and never before build. Zero
// times are unknown. A hardware clock with a plausible time is running, and limits the saved time. If the system clock,
// now, is the latest already, Floor returns it with FromClock, and nothing needs to be set.
func Floor(build, saved, rtc, now time.Time) (time.Time, clockstatus.Origin) {
	best, origin := build, clockstatus.FromBuild
	if Plausible(build, rtc) && saved.Sub(rtc) > savedLead {
		saved = time.Time{}
	}
	for _, c := range []struct {
		at     time.Time
		origin clockstatus.Origin
	}{{saved, clockstatus.FromSaved}, {rtc, clockstatus.FromRTC}, {now, clockstatus.FromClock}} {
		// Of equal times the later row counts: a clock that is right needs no setting.
		if Plausible(build, c.at) && !c.at.Before(best) {
			best, origin = c.at, c.origin
		}
	}
	return best, origin
}
