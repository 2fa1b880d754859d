package main

import (
	"context"
	"runtime/debug"
	"time"
)

// calmAfter is how long after its start, and after each lease, netd gives back what only these needed.
const calmAfter = 30 * time.Second

// calm gives back the memory of the heap that only the start of this process and a new lease needed. The caller reports
// each lease with leased. It returns at once; what it started ends with ctx.
func calm(ctx context.Context) (leased, wait func()) {
	done := make(chan struct{}) // closed when it has ended
	again := make(chan struct{}, 1)
	go func() {
		defer close(done)
		timer := time.NewTimer(calmAfter)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				timer.Reset(calmAfter)
				continue
			case <-timer.C:
			}
			debug.FreeOSMemory()
		}
	}()
	leased = func() {
		select {
		case again <- struct{}{}:
		default: // the last one has not been noticed yet
		}
	}
	return leased, func() { <-done }
}
