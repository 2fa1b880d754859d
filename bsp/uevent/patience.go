package uevent

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// patience is the nice value with which modules are loaded that nobody waits for: a tenth of the processor when the
// container engine wants it too, all of it otherwise.
const patience = 10

// patiently runs work at a low priority. Loading a module is the kernel's work in our thread, so it is the thread that
// gives way; what it may not do is stay behind for other work of the program. Where the priority cannot be changed, work runs as it is.
func patiently(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := unix.Gettid()
	old, err := unix.Getpriority(unix.PRIO_PROCESS, self)
	if err == nil && unix.Setpriority(unix.PRIO_PROCESS, self, patience) == nil {
		// The system call answers 20 less the nice value, so that no answer is below zero (getpriority(2), C library differences).
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, self, 20-old) }()
	}
	work()
}
