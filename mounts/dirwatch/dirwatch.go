// Package dirwatch owns the wait for a change in a directory: by inotify, and by looking again every second while inotify is not to be had. The
// kernel counts instances and watches by user, and root in a container is root here, so that somebody else may have taken them all; a daemon
// that ends for that, or never hears of anything again, would make a shortage an outage. It never says what has changed. Read Watch first.
package dirwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Every is how often a watch without inotify says that something may have changed, and asks for inotify again.
const Every = time.Second

// Watch wakes its user when something may have changed in a directory. It is used by one goroutine at a time.
type Watch struct {
	dir  string
	mask uint32
	log  *slog.Logger
	file *os.File // nil: without inotify
	buf  []byte
}

// Scarce reports whether an error says that inotify is used up: all instances (EMFILE), watches (ENOSPC), open files (ENFILE) or memory. It
// may be there again later.
func Scarce(err error) bool {
	for _, number := range []unix.Errno{unix.EMFILE, unix.ENOSPC, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// Open begins to watch dir for what mask, the IN_ constants of inotify(7), names. Without inotify it says so in the log and works all the same. It
// fails if there is no such directory. The caller closes the watch.
func Open(dir string, mask uint32, log *slog.Logger) (*Watch, error) {
	w := &Watch{dir: dir, mask: mask, log: log, buf: make([]byte, 4096)}
	err := w.attach()
	if err != nil && !Scarce(err) {
		return nil, err
	}
	if err != nil {
		log.Warn("inotify is used up, looking every second", "path", dir, "error", err)
	}
	return w, nil
}

func (w *Watch) attach() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.dir, os.NewSyscallError("inotify_init1", err))
	}
	file := os.NewFile(uintptr(fd), "inotify of "+w.dir) // Go's poller waits for it: no thread
	_, err = unix.InotifyAddWatch(fd, w.dir, w.mask|unix.IN_ONLYDIR)
	if err != nil {
		err = os.NewSyscallError("inotify_add_watch", err)
	} else if err = file.SetReadDeadline(time.Time{}); err != nil {
		err = unix.ENOSPC // Go's poller has no place for it: the kernel's count of what epoll watches is used up
	}
	if err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w", w.dir, err), file.Close())
	}
	w.file = file
	return nil
}

// Polling reports whether the watch works without inotify.
func (w *Watch) Polling() bool { return w.file == nil }

// Wait returns nil when something may have changed, or after d, whichever is first. It returns the cause of ctx when that is done, and
// another error when the watch can be used no more: its directory is gone.
func (w *Watch) Wait(ctx context.Context, d time.Duration) error {
	if w.file == nil {
		return w.poll(ctx, d)
	}
	if err := w.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read below
	defer stop()
	_, err := w.file.Read(w.buf)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EINTR):
		return nil
	}
	return fmt.Errorf("watch %s: %w", w.dir, err)
}

// poll lets a moment pass and tries to have inotify again. What changed before it had is told by returning.
func (w *Watch) poll(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, Every))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	err := w.attach()
	if err == nil {
		w.log.Info("inotify is available again", "path", w.dir)
	}
	if Scarce(err) {
		return nil
	}
	return err
}

// Close ends the watch.
func (w *Watch) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
