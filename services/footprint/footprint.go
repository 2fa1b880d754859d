// Package footprint owns the memory settings of a Go program: no garbage collection during the start, then free pages
// of the heap go back to the kernel, and the growth of the heap is limited. Read Rush first.
package footprint

import (
	"context"
	"math"
	"runtime/debug"
	"time"
)

// A Rest holds the settings of the heap that apply from a certain time on.
type Rest struct {
	After   time.Duration // since the call of Rush
	Percent int           // growth between two collections, of what is in use; at least 40 kB for each per cent
	Limit   int64         // bytes, near which the runtime collects more often; 0 is none
}

// Rush makes the start of a program fast and its memory small afterwards. From now on no garbage is collected, unless
// the program takes more than limit bytes: a collection would take processor time that the first container of the
// device waits for. When After of a Rest has passed, Rush returns the free memory of the heap to the kernel, once, and
// applies the settings of the Rest. rests are sorted by After. (Without Rush, the runtime collects every two minutes at
// rest and keeps a tenth of the free memory.) Rush returns at once. Its goroutine ends with ctx, or when the caller
// calls stop, which waits for that.
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
