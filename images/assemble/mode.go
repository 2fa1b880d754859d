package assemble

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// unixMode converts Go's mode bits into those of stat(2).
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	switch {
	case m.IsDir():
		mode |= unix.S_IFDIR
	case m&fs.ModeSymlink != 0:
		mode |= unix.S_IFLNK
	case m&fs.ModeCharDevice != 0:
		mode |= unix.S_IFCHR
	default:
		mode |= unix.S_IFREG
	}
	for bit, u := range map[fs.FileMode]uint32{fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID,
		fs.ModeSticky: unix.S_ISVTX} {
		if m&bit != 0 {
			mode |= u
		}
	}
	return mode
}

func unixTime(epoch int64) time.Time { return time.Unix(epoch, 0).UTC() }
