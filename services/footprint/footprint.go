// Package footprint owns what a Go program still holds when its start is over and nothing is to be done: pages of the
// heap that garbage has left, and threads that wait for work. It never changes how often garbage is collected. Read
// Shrink first.
package footprint

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// restThreads is how many threads of a program stay: that of main, the runtime's monitor, the one from which it makes
// threads while others are locked, and one that runs goroutines.
const restThreads = 4

// mostThreads bounds what one call ends.
const mostThreads = 64

// Shrink gives the free memory of the heap back to the kernel, and ends the threads beyond four. The runtime itself
// keeps each thread that it ever needed; on the kernel's side one costs 26 kB. It makes new ones when goroutines block
// in system calls again.
//
// Whoever starts a process that is killed when the thread that started it ends (Pdeathsig) has to lock its goroutine to
// the thread until that process has ended.
func Shrink() {
	debug.FreeOSMemory()
	if tasks, err := os.ReadDir("/proc/self/task"); err == nil { // without /proc the threads stay
		endThreads(min(len(tasks)-restThreads, mostThreads))
	}
}

// ShrinkAfter calls Shrink once, a time after now, unless ctx ends before. It returns at once; the caller has to call
// stop, which ends what it started.
func ShrinkAfter(ctx context.Context, pause time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			Shrink()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// endThreads ends n threads: as many goroutines are on a thread of their own at the same time, and a thread ends with a
// goroutine that is locked to it (runtime.LockOSThread).
func endThreads(n int) {
	if n <= 0 {
		return
	}
	var locked sync.WaitGroup
	release := make(chan struct{})
	for range n {
		locked.Add(1)
		go func() {
			runtime.LockOSThread()
			locked.Done()
			<-release
		}()
	}
	locked.Wait()
	close(release)
}
