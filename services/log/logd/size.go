package logd

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"resinos/mounts/disk"
)

// minRing holds a few hundred lines; less is a mistake of the owner.
const minRing = 64 << 10

// ParseSize reads the size of a ring as disk.ParseBytes does, and fails if it is too small or too large for a ring.
func ParseSize(text string) (int64, error) {
	size, err := disk.ParseBytes(text)
	if err != nil {
		return 0, err
	}
	if size < minRing || size > disk.TiB {
		return 0, fmt.Errorf("parse size %q: not between 64K and 1024G", text)
	}
	return int64(size), nil
}

// fitRing bounds the size of a ring by half of the file system that it lies on, which the spools and others share. An
// owner may have asked for more than the device has.
func fitRing(size int64, dir string, log *slog.Logger) int64 {
	room, err := fileSystemSize(dir)
	if err != nil || size <= room/2 {
		return size // the ring works in a full one, too
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
