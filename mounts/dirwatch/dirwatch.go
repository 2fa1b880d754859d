// Package dirwatch owns inotify: waiting for a change in a directory, by inotify or by looking every second while
// inotify is used up (Watch), and the instances of those who watch many places (Inotify).
//
// The kernel counts inotify instances and watches by user, and root in a container is root here, so somebody else may
// have used them all. A daemon that ended because of that, or missed all changes, would turn a shortage into a failure.
// A Watch does not report what has changed. Read Watch first.
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

// Every is the interval at which a watch without inotify assumes a change, and tries to get inotify again.
const Every = time.Second

// Watch wakes its user when something may have changed in a directory. One goroutine uses it at a time.
type Watch struct {
	dir  string
	mask uint32
	log  *slog.Logger
	file *os.File // nil: without inotify
	buf  []byte
}

// Scarce reports whether err means that inotify is used up for the moment: all instances (EMFILE), watches (ENOSPC),
// open files (ENFILE) or memory.
func Scarce(err error) bool {
	for _, number := range []unix.Errno{unix.EMFILE, unix.ENOSPC, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// Open begins to watch dir for the events in mask, the IN_ constants of inotify(7). If inotify is used up, it logs that
// and works without it. It fails if the directory does not exist. The caller closes the watch.
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
	i, err := NewInotify()
	if err != nil {
		return fmt.Errorf("watch %s: %w", w.dir, err)
	}
	file := os.NewFile(uintptr(i), "inotify of "+w.dir) // Go's poller waits for it: no thread is blocked
	_, err = i.Add(w.dir, w.mask|unix.IN_ONLYDIR)
	if err == nil && file.SetReadDeadline(time.Time{}) != nil {
		err = unix.ENOSPC // Go's poller cannot add it: the kernel's limit for epoll is used up
	}
	if err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w", w.dir, err), file.Close())
	}
	w.file = file
	return nil
}

// Polling reports whether the watch works without inotify.
func (w *Watch) Polling() bool { return w.file == nil }

// Wait returns nil when something may have changed, or after d, whichever is first; d = 0 is no limit. It returns the
// cause of ctx when ctx is done, and another error when the watch can no longer be used: its directory is gone.
func (w *Watch) Wait(ctx context.Context, d time.Duration) error {
	if w.file == nil {
		return w.poll(ctx, d)
	}
	var end time.Time // none
	if d > 0 {
		end = time.Now().Add(d)
	}
	if err := w.file.SetReadDeadline(end); err != nil {
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

// poll waits for Every and tries to get inotify again. It returns then, because something may have changed before.
func (w *Watch) poll(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		d = Every
	}
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
