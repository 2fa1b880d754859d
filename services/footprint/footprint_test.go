package footprint

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// TestReturnAfter: what was free goes back at the time, and not before.
func TestReturnAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := func() uint64 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapReleased
		}
		old := debug.SetGCPercent(100)
		defer debug.SetGCPercent(old)
		defer ReturnAfter(t.Context(), time.Minute, 25)()
		const size = 64 << 20
		garbage := make([]byte, size)
		for i := range garbage {
			garbage[i] = 1
		}
		runtime.KeepAlive(garbage)
		before := released()
		time.Sleep(time.Minute)
		synctest.Wait()
		if after := released(); after < before+size/2 {
			t.Errorf("%d bytes of the heap are the kernel's, %d before; want %d more", after, before, size)
		}
		if percent := debug.SetGCPercent(100); percent != 25 {
			t.Errorf("the heap grows by %d per cent", percent)
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
		defer Rush(t.Context(), 1<<40, time.Minute, 25)()
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

// TestReturnAfterStops: what waits for its time ends when it is told, and with the context.
func TestReturnAfterStops(t *testing.T) {
	ReturnAfter(t.Context(), time.Hour, 25)()
	ctx, cancel := context.WithCancel(t.Context())
	stop := ReturnAfter(ctx, time.Hour, 25)
	cancel()
	stop()
}
