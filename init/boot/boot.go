// Package boot owns the steps of the real root, from the first mount to the service files: one table that is printed as
// the plan and carried out as the boot. It waits for neither network nor time, and no step ends it. What comes after it
// is PID 1's life (init/life). Read steps first, then System.
package boot
