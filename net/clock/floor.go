// Package clock owns what is known of the time: where a device without a network begins to count, which of several time
// servers to believe, and how far off its clock is.
//
// Its decisions are pure: no clock, file, network or system call. Only Saved, Save, LoadStatus, ProcessStart and Ours look at files.
// It never sets a clock and never speaks NTP (timed does both).
//
// Read first: Machine, then Select, then Filter.
package clock

import "time"

// Origin says where the time comes from.
type Origin string

// The origins, as they stand in the file of Status.
const (
	FromBuild Origin = "build" // the image: it cannot be earlier
	FromSaved Origin = "saved" // what the state partition kept
	FromRTC   Origin = "rtc"   // the hardware clock
	FromClock Origin = "clock" // what the system clock said already: the kernel sets it from a hardware clock that it knows early
	FromNTP   Origin = "ntp"   // a majority of time servers
	FromHand  Origin = "hand"  // somebody has set it since the servers were last heard
)

// Horizon is how long after its build an image may still run. What claims to be later is garbage: empty hardware clocks say
// 1970, 2000, 2066 or 2099, and roots of trust end before.
const Horizon = 30 * 365 * 24 * time.Hour

// Plausible reports whether t can be the time on a device whose image was built at build. A zero build excludes only a zero t.
func Plausible(build, t time.Time) bool {
	if build.IsZero() {
		return !t.IsZero()
	}
	return !t.Before(build) && t.Before(build.Add(Horizon))
}

// savedLead is how far a saved time is believed beyond a hardware clock that runs. No battery-backed clock loses a day between two
// boots of a device; who has set the clock further than that by hand was wrong, or sets the hardware clock too.
const savedLead = 24 * time.Hour

// Floor returns the time with which a device begins: the latest of the plausible ones, and never before build. Zero times are
// unknown. A hardware clock that says a plausible time runs, and bounds the saved time. When the system clock, now, is the latest
// already, it is returned with FromClock, and nothing needs to be set.
func Floor(build, saved, rtc, now time.Time) (time.Time, Origin) {
	best, origin := build, FromBuild
	if Plausible(build, rtc) && saved.Sub(rtc) > savedLead {
		saved = time.Time{}
	}
	for _, c := range []struct {
		at     time.Time
		origin Origin
	}{{saved, FromSaved}, {rtc, FromRTC}, {now, FromClock}} {
		// At the same time the later row counts: a clock that is right needs no setting.
		if Plausible(build, c.at) && !c.at.Before(best) {
			best, origin = c.at, c.origin
		}
	}
	return best, origin
}
