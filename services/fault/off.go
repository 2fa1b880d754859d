//go:build !faults

package fault

// On reports whether this binary has fault points.
const On = false

// Point marks a place that may panic or hang.
func Point(string) {}

// Call is called before a system call; if it returns an error, the system call must fail with that error.
func Call(string) error { return nil }
