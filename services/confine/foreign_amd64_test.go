package confine

import "golang.org/x/sys/unix"

// foreign makes an x32 call: getpid.
func foreign() error { return plain(x32|unix.SYS_GETPID, 0, 0, 0) }
