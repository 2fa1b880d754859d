package confine

import "golang.org/x/sys/unix"

// foreign makes a call far above all numbers, which the filter takes for another architecture's.
func foreign() error { return plain(x32|unix.SYS_GETPID, 0, 0, 0) }
