// Package footprint owns when a Go program gives back the pages of its heap that only its start needed, and how far the
// heap may grow from then on. Read ReturnAfter first.
package footprint

import (
	"context"
	"runtime/debug"
	"time"
)

// ReturnAfter gives the free memory of the heap back to the kernel once, a time after now, unless ctx ends before. From
// then on the heap may grow by percent of what is in use between two collections, and at least by 40 kB for each per
// cent. The runtime itself looks for garbage every two minutes at rest, and keeps a tenth of what is free. ReturnAfter
// returns at once; the caller has to call stop, which ends what it started.
func ReturnAfter(ctx context.Context, pause time.Duration, percent int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			debug.SetGCPercent(percent)
			debug.FreeOSMemory()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
