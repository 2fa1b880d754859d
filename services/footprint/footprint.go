// Package footprint owns when a Go program collects garbage during its start, when it gives back the pages of its heap
// that only its start needed, and how far the heap may grow from then on. Read Rush first.
package footprint

import (
	"context"
	"math"
	"runtime/debug"
	"time"
)

// A Rest is what a program's heap is held to from a time on.
type Rest struct {
	After   time.Duration // since the call of Rush
	Percent int           // growth between two collections, of what is in use; at least 40 kB for each per cent
	Limit   int64         // bytes, near which the runtime collects more often; 0 is none
}

// Rush lets the start of a program be fast and the rest of its life small: no garbage is collected from now on, unless
// the program takes more than limit bytes. At the start of a device, a collection takes the processor from what the
// first container waits for. At the time of each of rests, in the order of time, Rush gives the free memory of the heap
// back to the kernel, once, and holds the heap to that rest; the runtime itself looks for garbage every two minutes at
// rest, and keeps a tenth of what is free. Rush returns at once; what it started ends with ctx, or when the caller
// calls stop, which waits for it.
func Rush(ctx context.Context, limit int64, rests ...Rest) (stop func()) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(limit)
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, r := range rests {
			if !wait(ctx, time.Until(began.Add(r.After))) {
				return
			}
			r.apply()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (r Rest) apply() {
	limit := r.Limit
	if limit == 0 {
		limit = math.MaxInt64
	}
	debug.SetMemoryLimit(limit)
	debug.SetGCPercent(r.Percent)
	debug.FreeOSMemory()
}

// wait says whether the time has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
