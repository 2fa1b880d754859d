package main

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// calmAfter is how long after its start, after each lease, and after work netd gives back what only these needed.
const calmAfter = 30 * time.Second

// many page faults since memory was given back mean that so much of it is in use again that it is worth to do it again:
// what was found in minutes at rest is half of them.
const many = 300

// How far the heap may grow between two collections, in per cent of what is in use, and at least 40 kB for each per
// cent. At rest a collection comes once in minutes; where it comes twice within a second, there is work, of which
// collections would take a tenth more time.
const (
	growthAtRest = 25
	growthAtWork = 50
	often        = time.Second
)

// process is what calm knows of this process.
type process struct {
	collections <-chan struct{} // has a value after each collection of the heap, at rest every two minutes
	faults      func() int64    // the page faults so far
	log         *slog.Logger
}

// calm gives back the memory of the heap that only the start of this process, a new lease and work needed, and the
// pages of the program. The caller reports each lease with leased. It returns at once; what it started ends with ctx.
func (p process) calm(ctx context.Context) (leased, wait func()) {
	done := make(chan struct{}) // closed when it has ended
	again := make(chan struct{}, 1)
	go func() {
		defer close(done)
		timer := time.NewTimer(calmAfter)
		defer timer.Stop()
		debug.SetGCPercent(growthAtWork)
		atWork, last, before := true, time.Now(), p.faults()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
				timer.Reset(calmAfter)
				continue
			case <-p.collections:
				if time.Since(last) < often && !atWork {
					atWork = true
					debug.SetGCPercent(growthAtWork)
				}
				if last = time.Now(); atWork || p.faults()-before >= many {
					timer.Reset(calmAfter)
				}
				continue
			case <-timer.C:
			}
			atWork = false
			debug.SetGCPercent(growthAtRest)
			debug.FreeOSMemory()
			if err := shed(); err != nil {
				p.log.Warn("memory of the program not given back", "error", err)
			}
			before = p.faults()
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

// faults returns how many pages this process has asked the kernel for.
func faults() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Minflt + u.Majflt
}

// collections returns a channel that has a value after each collection of the heap.
func collections() <-chan struct{} {
	out := make(chan struct{}, 1)
	type mark struct{ _ [2]*int } // nothing refers to it, so that each collection finds it
	var found func(*mark)
	found = func(m *mark) {
		select {
		case out <- struct{}{}:
		default: // the last one has not been noticed yet
		}
		runtime.SetFinalizer(m, found)
	}
	runtime.SetFinalizer(&mark{}, found)
	return out
}
