package footprint

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"resinos/mounts/testenv"
)

// TestRests: garbage is collected and what was free goes back at the time of each rest, and not before; each rest sets
// its own growth and limit.
func TestRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := func() (m runtime.MemStats) {
			runtime.ReadMemStats(&m)
			return m
		}
		held := func() (percent int, limit int64) {
			percent, limit = debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
			debug.SetGCPercent(percent)
			return percent, limit
		}
		percent, limit := held()
		defer debug.SetGCPercent(percent)
		defer debug.SetMemoryLimit(limit)
		const calm = 1 << 39
		defer Rush(t.Context(), 1<<40,
			Rest{After: time.Minute, Percent: 50, Limit: calm}, Rest{After: 3 * time.Minute, Percent: 25})()
		const size = 64 << 20
		garbage := make([]byte, size)
		for i := range garbage {
			garbage[i] = 1
		}
		runtime.KeepAlive(garbage)
		begin := seen()
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		before := seen()
		if n := before.NumForcedGC - begin.NumForcedGC; n > 0 {
			t.Errorf("free memory went back %d times before the first rest", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		// Only debug.FreeOSMemory, which gives back what is free, forces a collection here.
		after := seen()
		if n := after.NumForcedGC - before.NumForcedGC; n != 1 {
			t.Errorf("free memory went back %d times at the first rest, want once", n)
		}
		t.Logf("%d bytes of the heap are the kernel's, %d before", after.HeapReleased, before.HeapReleased)
		if testenv.Figures() && after.HeapReleased < before.HeapReleased+size/2 {
			t.Errorf("%d bytes of the heap are the kernel's, %d before; want %d more", after.HeapReleased,
				before.HeapReleased, size)
		}
		if percent, limit := held(); percent != 50 || limit != calm {
			t.Errorf("first rest: the heap grows by %d per cent, limit %d", percent, limit)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := seen().NumForcedGC - after.NumForcedGC; n != 1 {
			t.Errorf("free memory went back %d times at the second rest, want once", n)
		}
		if percent, limit := held(); percent != 25 || limit != math.MaxInt64 {
			t.Errorf("second rest: the heap grows by %d per cent, limit %d", percent, limit)
		}
	})
}

// TestRush: no garbage is collected before the time, and then there is no limit any more.
func TestRush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collections := func() uint32 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.NumGC
		}
		percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
		defer debug.SetGCPercent(percent)
		defer debug.SetMemoryLimit(limit)
		runtime.GC() // none is at work when the rush begins
		defer Rush(t.Context(), 1<<40, Rest{After: time.Minute, Percent: 25})()
		before := collections()
		var kept []byte
		for range 64 {
			kept = make([]byte, 1<<20)
		}
		runtime.KeepAlive(kept)
		if n := collections() - before; n > 0 {
			t.Errorf("%d collections during the rush", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if collections() == before {
			t.Error("no collection at its end")
		}
		grows, most := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
		if grows != 25 || most != math.MaxInt64 {
			t.Errorf("the heap grows by %d per cent, limit %d", grows, most)
		}
	})
}

// TestRushStops: what waits for its time ends when it is told, and with the context.
func TestRushStops(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer debug.SetGCPercent(percent)
	defer debug.SetMemoryLimit(limit)
	Rush(t.Context(), 1<<40, Rest{After: time.Hour, Percent: 25})()
	ctx, cancel := context.WithCancel(t.Context())
	stop := Rush(ctx, 1<<40, Rest{After: time.Hour, Percent: 25})
	cancel()
	stop()
}
