package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// retrySocket is the wait between bind and listen of a server that is just starting, and the
// longest time that a lost event can cost.
const retrySocket = 5 * time.Millisecond

// awaitSocket returns once somebody accepts on the unix socket at path.
func awaitSocket(ctx context.Context, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("await %s: %w", path, err)
	}
	watch, err := watchFolder(dir)
	if err != nil {
		return fmt.Errorf("await %s: %w", path, err)
	}
	defer watch.Close() // only read
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		wait := retrySocket
		if errors.Is(err, unix.ENOENT) {
			wait = time.Minute // its creation wakes us
		}
		if err := watch.wait(ctx, wait); err != nil {
			return err
		}
	}
}

// folderWatch wakes when a name appears in a folder or a file there is written.
type folderWatch struct{ *os.File }

func watchFolder(dir string) (folderWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return folderWatch{}, fmt.Errorf("watch %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "inotify of "+dir)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE); err != nil {
		return folderWatch{}, errors.Join(fmt.Errorf("watch %s: %w", dir, err), f.Close())
	}
	return folderWatch{f}, nil
}

// wait returns nil after an event or after d, whichever is first.
func (w folderWatch) wait(ctx context.Context, d time.Duration) error {
	if err := w.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read below
	defer stop()
	buf := make([]byte, 4096)
	_, err := w.Read(buf)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}
