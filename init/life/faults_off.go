//go:build !faults

package life

import (
	"log/slog"

	"resinos/bsp/watchdog"
	"resinos/services/control"
)

// faultHandlers are operations that only binaries with fault points have.
func faultHandlers() map[string]control.Handler { return nil }

// orderFaults takes the orders that a test gave before the first instruction.
func orderFaults() {}

// testWatchdog stands in for a watchdog where there is none.
func testWatchdog(*slog.Logger) watchdog.Feeder { return nil }
