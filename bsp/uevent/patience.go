package uevent

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// moduleNice is the nice value for loading modules that nobody waits for: they get a tenth of the processor while the
// container engine wants it too, and all of it otherwise.
const moduleNice = 10

// atLowPriority runs work at a low priority. Loading a module is work of the kernel in our thread, so the thread gets
// the low priority; afterwards it must get its old one back for other work of the program. If the priority cannot be
// changed, work runs with the old one.
func atLowPriority(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := unix.Gettid()
	old, err := unix.Getpriority(unix.PRIO_PROCESS, self)
	if err == nil && unix.Setpriority(unix.PRIO_PROCESS, self, moduleNice) == nil {
		// The system call returns 20 minus the nice value, so that no result is below zero (getpriority(2), C library
		// differences).
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, self, 20-old) }()
	}
	work()
}
