package clock

import (
	"math"
	"time"
)

// Filter estimates the true time from the raw clock, which nobody sets or slews. It is a Kalman filter of two values:
// the offset of the raw clock, and the rate at which the offset grows. Measurements may come at any interval. Nothing
// that is done to the system clock reaches the filter's input, so correcting the clock cannot make it oscillate.
//
// Times are those of the raw clock.
type Filter struct {
	set  bool
	at   time.Time     // of the estimate
	base time.Duration // of the offset, so that the floats stay small
	off  float64       // true time minus raw clock, minus base, seconds
	rate float64       // its growth, seconds per second

	// The covariance of the two.
	varOff, cov, varRate float64
}

// What is assumed of oscillators: at first a rate within 200 ppm (nobody builds in worse ones); later the rate drifts
// by 1 ppm in an hour, as temperature does, and the phase by 10 ns in a second.
const (
	firstRate  = 200e-6
	wanderRate = 1e-6 * 1e-6 / 3600
	wanderOff  = 10e-9 * 10e-9
)

// Empty reports whether the filter has had no measurement yet.
func (f *Filter) Empty() bool { return !f.set }

// Assume sets the rate, in seconds per second, with its standard deviation, if an earlier life has learnt it.
func (f *Filter) Assume(rate, sigma float64) { f.rate, f.varRate = rate, sigma*sigma }

// Reset forgets the offset and keeps the rate.
func (f *Filter) Reset() { f.set = false }

// Loosen increases the uncertainty: the estimate was found to be wrong by about by seconds, more than it claims.
func (f *Filter) Loosen(by float64) { f.varOff += by * by }

// Surprise returns the difference between an offset that was measured at the raw time at and the one that the filter
// expects, and the standard deviation of that difference if the measurement's own is sigma. Both are seconds.
func (f *Filter) Surprise(at time.Time, offset time.Duration, sigma float64) (by, deviation float64) {
	if !f.set {
		return 0, math.Inf(1)
	}
	g := *f
	g.predict(at)
	return (offset - g.base).Seconds() - g.off, math.Sqrt(g.varOff + sigma*sigma)
}

// Update adds an offset that was measured at the raw time at, with its standard deviation in seconds.
func (f *Filter) Update(at time.Time, offset time.Duration, sigma float64) {
	if !f.set {
		if f.varRate == 0 {
			f.varRate = firstRate * firstRate
		}
		f.set, f.at, f.base, f.off = true, at, offset, 0
		f.varOff, f.cov = sigma*sigma, 0
		return
	}
	f.predict(at)
	surprise := (offset - f.base).Seconds() - f.off
	total := f.varOff + sigma*sigma
	gainOff, gainRate := f.varOff/total, f.cov/total
	f.off += gainOff * surprise
	f.rate += gainRate * surprise
	f.varRate -= gainRate * f.cov
	f.cov *= 1 - gainOff
	f.varOff *= 1 - gainOff
}

// predict moves the estimate to a later time.
func (f *Filter) predict(at time.Time) {
	dt := at.Sub(f.at).Seconds()
	if dt <= 0 {
		return // the replies of one round may come in any order
	}
	f.at = at
	f.off += f.rate * dt
	f.varOff += 2*dt*f.cov + dt*dt*f.varRate + wanderOff*dt + wanderRate*dt*dt*dt/3
	f.cov += dt*f.varRate + wanderRate*dt*dt/2
	f.varRate += wanderRate * dt
}

// Offset returns the estimate for a raw time: true time minus raw clock, and its standard deviation in seconds.
func (f *Filter) Offset(at time.Time) (time.Duration, float64) {
	g := *f
	g.predict(at)
	return g.base + time.Duration(g.off*1e9), math.Sqrt(g.varOff)
}

// Rate returns by how much the raw clock is too slow, in parts per million, and the standard deviation of that.
func (f *Filter) Rate() (ppm, sigma float64) { return f.rate * 1e6, math.Sqrt(f.varRate) * 1e6 }
