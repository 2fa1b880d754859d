// Package boot owns the steps of PID 1's boot, from the first mount to the service files: one table that is printed as
// the plan and carried out as the boot. It waits for neither network nor time, and no failed step ends it. init/life
// runs PID 1 afterwards. Read steps first, then System.
package boot
