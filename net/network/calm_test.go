package main

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestCalm: memory is given back once, 30 s after the start or the last lease.
func TestCalm(t *testing.T) {
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		leased, wait := calm(ctx)
		defer wait()
		defer stop()
		before := forced()
		after := func(d time.Duration, want uint32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := forced() - before; got != want {
				t.Errorf("memory given back %d times, want %d", got, want)
			}
		}
		after(calmAfter-time.Second, 0)
		leased()
		after(calmAfter-time.Second, 0)
		after(2*time.Second, 1)
		after(time.Hour, 1)
		leased()
		after(calmAfter+time.Second, 2)
	})
}
