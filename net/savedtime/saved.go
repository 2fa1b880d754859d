package savedtime

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the file whose modification time is the saved time. It is beside the persistent paths, not among them.
const Path = "/mnt/state/clock"

// How far the saved time may be from the clock before it is written again. A day is short compared with the validity of
// certificates, for which a wrong clock matters, and costs flash a few blocks a day.
const (
	saveBehind = 24 * time.Hour
	saveAhead  = time.Minute
)

// Due reports whether the time must be saved: it was never saved (a zero saved), it was saved a day ago, or the saved
// time is in the future, where it would set the clock of the next boot.
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

// Save makes now the saved time and returns when it has reached the disk. It writes only the inode: there is no content
// that could be torn or that needs space on a full disk.
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
