//go:build !faults

package boot

import "resinos/services/control"

// faultHandlers are operations that only binaries with fault points have.
func faultHandlers() map[string]control.Handler { return nil }

// orderFaults takes the orders that a test gave before the first instruction.
func orderFaults() {}
