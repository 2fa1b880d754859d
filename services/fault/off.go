//go:build !faults

package fault

// On says whether this binary has fault points.
const On = false

// Point is a place that may panic or hang.
func Point(string) {}

// Call is asked before a system call; an error is what the call is to fail with.
func Call(string) error { return nil }
