// Package savedtime owns the time with which a device begins that nobody has told the time yet: the saved time, which
// outlives the boot, and the choice between it, the build time and the hardware clock. It never sets a clock. Read
// Floor first.
package savedtime

import (
	"resinos/net/clockstatus"
	"time"
)

// Horizon is how long after its build an image may still run. What claims to be later is garbage: empty hardware
// clocks say 1970, 2000, 2066 or 2099, and roots of trust end before.
const Horizon = 30 * 365 * 24 * time.Hour

// Plausible reports whether t can be the time on a device whose image was built at build. A zero build excludes only a
// zero t.
func Plausible(build, t time.Time) bool {
	if build.IsZero() {
		return !t.IsZero()
	}
	return !t.Before(build) && t.Before(build.Add(Horizon))
}

// savedLead is how far a saved time is believed beyond a hardware clock that runs. No battery-backed clock loses a day
// between two boots of a device; who has set the clock further than that by hand was wrong, or sets the hardware clock
// too.
const savedLead = 24 * time.Hour

// Floor returns the time with which a device begins: the latest of the plausible ones, and never before build. Zero
// times are unknown. A hardware clock that says a plausible time runs, and bounds the saved time. When the system
// clock, now, is the latest already, it is returned with FromClock, and nothing needs to be set.
func Floor(build, saved, rtc, now time.Time) (time.Time, clockstatus.Origin) {
	best, origin := build, clockstatus.FromBuild
	if Plausible(build, rtc) && saved.Sub(rtc) > savedLead {
		saved = time.Time{}
	}
	for _, c := range []struct {
		at     time.Time
		origin clockstatus.Origin
	}{{saved, clockstatus.FromSaved}, {rtc, clockstatus.FromRTC}, {now, clockstatus.FromClock}} {
		// At the same time the later row counts: a clock that is right needs no setting.
		if Plausible(build, c.at) && !c.at.Before(best) {
			best, origin = c.at, c.origin
		}
	}
	return best, origin
}
