package savedtime

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the file whose time of modification is the saved time. It lies beside what persists, not in it.
const Path = "/mnt/state/clock"

// How far the saved time may be from the clock before it is written again. A day is little beside the validity of
// certificates, which is what a wrong clock breaks, and costs flash a few blocks a day.
const (
	saveBehind = 24 * time.Hour
	saveAhead  = time.Minute
)

// Due reports whether the time is to be saved: never yet (a zero saved), a day ago, or wrongly in the future, where it
// would set the clock of the next boot.
func Due(saved, now time.Time) bool {
	return now.Sub(saved) >= saveBehind || saved.Sub(now) > saveAhead
}

// Read returns the saved time. The error wraps fs.ErrNotExist if none has been saved.
func Read(path string) (time.Time, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("read saved time: %w", err)
	}
	if !st.Mode().IsRegular() {
		return time.Time{}, fmt.Errorf("read saved time %s: it is no file; remove it", path)
	}
	return st.ModTime(), nil
}

// Save makes now the saved time and returns when it has reached the disk. Only the inode is written: no content that
// could be torn or want space on a full disk.
func Save(path string, now time.Time) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return fmt.Errorf("save time: %w", err)
	}
	ts := unix.NsecToTimespec(now.UnixNano())
	err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		err = fmt.Errorf("save time %s: %w", path, err)
	} else if err = f.Sync(); err != nil {
		err = fmt.Errorf("save time: %w", err)
	}
	return errors.Join(err, f.Close())
}
