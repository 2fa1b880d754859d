// Package footprint owns when a Go program collects garbage during its start, when it gives back the pages of its heap
// that only its start needed, and how far the heap may grow from then on. Read Rush first.
package footprint

import (
	"context"
	"math"
	"runtime/debug"
	"time"
)

// Rush lets the start of a program be fast and the rest of its life small: no garbage is collected for a time from now
// on, unless the program takes more than limit bytes. Then it does what ReturnAfter says. At the start of a device, a
// collection takes the processor from what the first container waits for.
func Rush(ctx context.Context, limit int64, pause time.Duration, percent int) (stop func()) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(limit)
	return after(ctx, pause, func() {
		debug.SetMemoryLimit(math.MaxInt64)
		rest(percent)
	})
}

// ReturnAfter gives the free memory of the heap back to the kernel once, a time after now, unless ctx ends before. From
// then on the heap may grow by percent of what is in use between two collections, and at least by 40 kB for each per
// cent. The runtime itself looks for garbage every two minutes at rest, and keeps a tenth of what is free. ReturnAfter
// returns at once; the caller has to call stop, which ends what it started.
func ReturnAfter(ctx context.Context, pause time.Duration, percent int) (stop func()) {
	return after(ctx, pause, func() { rest(percent) })
}

func rest(percent int) {
	debug.SetGCPercent(percent)
	debug.FreeOSMemory()
}

// after calls f once, a time after now, unless ctx ends before. The caller has to call stop, which waits for f.
func after(ctx context.Context, pause time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			f()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
