package main

import (
	"context"
	"runtime/debug"
	"time"

	"resinos/services/footprint"
)

const (
	// rushTime is how long after its start a program trades memory for speed.
	rushTime = 20 * time.Second
	// rushLimit is the heap that may grow without a collection meanwhile: a collection costs more
	// time than the memory is worth.
	rushLimit = 36 << 20
	// restTime is how long after its start it gives back what the first containers took, too.
	restTime = time.Minute
	// calmPercent keeps the idle daemon small (measured: 8 MB private instead of 15).
	calmPercent = 50
	// restPercent is how far the heap grows from restTime on.
	restPercent = 25
	// calmLimit makes the collector work harder near it; it is no bound, image pulls may pass it.
	calmLimit = 64 << 20
)

// tuneHeap lets the start of this process be fast and the rest of its life small. By calls and not
// by GOGC: the shim and crun inherit the environment. It returns at once; what it started ends
// with ctx.
func tuneHeap(ctx context.Context) (wait func()) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(rushLimit)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(rushTime)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		debug.SetGCPercent(calmPercent)
		debug.SetMemoryLimit(calmLimit)
		debug.FreeOSMemory()
	}()
	stop := footprint.ReturnAfter(ctx, restTime, restPercent)
	return func() {
		<-done
		stop()
	}
}
