// Package fault owns the places where tests break PID 1: named points that panic or hang, and system calls that fail.
// It exists only in binaries with the build tag faults; without it every function here is empty and inlined. It never
// decides what follows from a fault. Read Point and Call first.
package fault
