//go:build faults

package life

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"time"

	"resinos/bsp/watchdog"
	"resinos/services/control"
	"resinos/services/fault"
)

// faultHandlers are operations that only binaries with fault points have: fault takes a fault.Order, calls counts the
// calls so far.
func faultHandlers() map[string]control.Handler {
	return map[string]control.Handler{
		"fault": func(_ context.Context, args json.RawMessage) (any, error) {
			var o fault.Order
			if err := control.Args(args, &o); err != nil {
				return nil, err
			}
			return nil, fault.Set(o)
		},
		"calls": func(context.Context, json.RawMessage) (any, error) { return fault.Calls(), nil },
	}
}

// faultFile holds the orders that a test gave before the first instruction, a JSON list.
const faultFile = "/etc/resinos-faults"

// orderFaults takes the orders that a test gave before the first instruction.
func orderFaults() {
	text, err := os.ReadFile(faultFile)
	if err != nil {
		return
	}
	var all []fault.Order
	if json.Unmarshal(text, &all) == nil {
		for _, o := range all {
			_ = fault.Set(o)
		}
	}
}

// loggedWatchdog logs when it is fed.
type loggedWatchdog struct{ log *slog.Logger }

func (d loggedWatchdog) Feed() error            { d.log.Info("watchdog fed"); return nil }
func (d loggedWatchdog) Timeout() time.Duration { return 2 * time.Second }

// testWatchdog stands in for a watchdog where there is none.
func testWatchdog(log *slog.Logger) watchdog.Feeder { return loggedWatchdog{log} }
