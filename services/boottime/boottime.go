// Package boottime owns the clock that counts from the start of the kernel. Setting the time does not change it, and it
// continues while a device is suspended. All processes of a device read the same clock, so one process can use the
// value of another.
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now returns the time since the kernel started (CLOCK_BOOTTIME).
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // cannot happen: the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// Time returns the time of this process's clock at which since had passed since the kernel started.
func Time(since time.Duration) time.Time { return time.Now().Add(since - Now()) }
