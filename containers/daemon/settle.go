package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// settleAfter is how long after readiness the daemon trades memory for speed.
const settleAfter = 20 * time.Second

// settle waits until the rush of the first container starts is over, then turns the collector on
// and returns what the start left behind.
func settle(ctx context.Context) {
	timer := time.NewTimer(settleAfter)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	debug.SetGCPercent(runPercent)
	debug.SetMemoryLimit(runLimit)
	debug.FreeOSMemory()
}
