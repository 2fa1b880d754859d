package logd

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// minRing holds a few hundred lines; less is a mistake of the owner.
const minRing = 64 << 10

// ParseSize reads the size of a ring: a number of bytes, or of K, M or G.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(text), unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse size %q: not a number like 8M", text)
	}
	size := int64(n) << shift
	if size < minRing || size > 1<<40 {
		return 0, fmt.Errorf("parse size %q: not between 64K and 1024G", text)
	}
	return size, nil
}

// fitRing bounds the size of a ring by half of the file system that it lies on, which the spools and others share. An owner may
// have asked for more than the device has.
func fitRing(size int64, dir string, log *slog.Logger) int64 {
	room, err := fileSystemSize(dir)
	if err != nil || size <= room/2 {
		return size // the ring copes with a full one, too
	}
	log.Warn("log ring is smaller than it should be, there is no room for more", "path", dir, "size", room/2)
	return room / 2
}

func fileSystemSize(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks) * int64(st.Bsize), nil
}
