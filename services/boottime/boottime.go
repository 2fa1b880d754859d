// Package boottime owns the clock that counts from the start of the kernel. No setting of the time moves it, and it goes on
// while a device is suspended. All processes of a device read the same clock, so that a value may go from one to another.
package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the kernel started (CLOCK_BOOTTIME).
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // cannot happen: the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
