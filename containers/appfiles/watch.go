package appfiles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/containers/load"
	"resinos/mounts/dirwatch"
	"resinos/mounts/plainfile"
)

const (
	// quiet is the time without a further change after which a change counts as complete: an app has several files.
	quiet = time.Second
	// unrest limits the wait for quiet.
	unrest = 10 * time.Second
	// pollEvery is the time between two looks while inotify is used up.
	pollEvery = 5 * time.Second
)

// Watch sends to asked when something below dir has changed, until ctx is done. ready is closed when no later change
// can be missed. asked has the capacity 1: one request stands for all changes.
//
// The kernel reports changes by inotify. If inotify is used up (the device and its containers share
// fs.inotify.max_user_instances), Watch logs that, looks at dir every pollEvery, and tries inotify again.
func Watch(ctx context.Context, dir string, ready, asked chan<- struct{}, log *slog.Logger) {
	w := appsWatch{dir: filepath.Clean(dir), asked: asked, log: log, quiet: quiet, every: pollEvery,
		open: dirwatch.NewInotify}
	w.run(ctx, ready)
}

// appsWatch is an inotify instance with a watch on every directory that matters.
type appsWatch struct {
	dir          string
	asked        chan<- struct{}
	log          *slog.Logger
	quiet, every time.Duration
	open         func() (dirwatch.Inotify, error)

	inotify dirwatch.Inotify
	events  *os.File         // of inotify; nil while it is used up
	watches map[int32]string // directory by watch
	polls   bool
	last    string // the stamp of the last look
	told    string // the stamp at the last request
}

func (w *appsWatch) run(ctx context.Context, ready chan<- struct{}) {
	defer w.close()
	defer closeOnce(&ready)
	for changed := false; ctx.Err() == nil; {
		err := w.cover() // before the apps are read, so that no directory is read without its watch
		if err == nil && w.polls {
			w.log.Info("apps are watched again", "path", w.dir)
			w.polls, changed = false, true
		}
		if changed {
			w.ask()
		}
		if err == nil {
			closeOnce(&ready)
			err = w.settled(ctx)
			changed = true
		}
		if err != nil && ctx.Err() == nil {
			changed = w.poll(ctx, err, &ready)
		}
	}
}

func (w *appsWatch) ask() {
	select {
	case w.asked <- struct{}{}:
	default: // a request waits already
	}
}

func (w *appsWatch) close() {
	if w.events != nil {
		w.events.Close() // only read
	}
	w.events, w.watches = nil, nil
}

// dirs returns the directories whose entries matter.
func (w *appsWatch) dirs() []string {
	out := []string{w.dir}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return out // Read reports the fault
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			app := filepath.Join(w.dir, e.Name())
			out = append(out, app, filepath.Join(app, "images"))
		}
	}
	return out
}

// cover sets a watch on all existing directories, and on the parent of the directory of apps, which itself may be
// created and removed. It removes the watches of directories that are gone.
func (w *appsWatch) cover() error {
	if w.events == nil {
		i, err := w.open()
		if err != nil {
			return fmt.Errorf("watch %s: %w", w.dir, err)
		}
		w.inotify, w.events = i, os.NewFile(uintptr(i), "inotify of "+w.dir)
	}
	watches := map[int32]string{}
	add := func(dir string) error {
		wd, err := w.inotify.Add(dir, unix.IN_CREATE|unix.IN_CLOSE_WRITE|unix.IN_DELETE|
			unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW|unix.IN_EXCL_UNLINK)
		if err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
		watches[wd] = dir
		return nil
	}
	err := add(filepath.Dir(w.dir))
	if e := add(w.dir); err == nil && !gone(e) {
		err = e
	}
	if err == nil { // listed only now: later changes are events
		for _, dir := range w.dirs()[1:] {
			if e := add(dir); !gone(e) {
				err = errors.Join(err, e)
			}
		}
	}
	if err != nil {
		w.close()
		return err
	}
	for wd := range w.watches {
		if _, still := watches[wd]; !still {
			w.inotify.Remove(wd)
		}
	}
	w.watches = watches
	return nil
}

// gone reports whether the error means that there is no directory of this name.
func gone(err error) bool {
	return err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// settled returns nil after a change that was followed by the time quiet.
func (w *appsWatch) settled(ctx context.Context) error {
	if _, err := w.next(ctx, time.Time{}); err != nil {
		return err
	}
	for end := time.Now().Add(unrest); time.Now().Before(end); {
		changed, err := w.next(ctx, time.Now().Add(w.quiet))
		if err != nil {
			return err
		}
		if !changed {
			return nil
		}
	}
	return nil
}

// next waits for a change that matters. It returns false if none came until the deadline.
func (w *appsWatch) next(ctx context.Context, deadline time.Time) (bool, error) {
	if err := w.events.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	events := w.events
	stop := context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read below
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, err := w.events.Read(buf)
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case err != nil:
			return false, err
		case w.matters(buf[:n]):
			return true, nil
		}
	}
}

// matters reports whether the events that inotify(7) wrote can concern the files of an app.
func (w *appsWatch) matters(events []byte) bool {
	for _, ev := range dirwatch.ParseEvents(events) {
		above := w.watches[ev.Watch] == filepath.Dir(w.dir)
		switch {
		case ev.Mask&unix.IN_Q_OVERFLOW != 0:
			return true
		case ev.Mask&unix.IN_IGNORED != 0: // the event before it gave the reason
		case above && ev.Name == filepath.Base(w.dir), !above && (ev.Mask&unix.IN_ISDIR != 0 || relevant(ev.Name)):
			return true
		}
	}
	return false
}

// relevant reports whether files of this name are read.
func relevant(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".tar") ||
		strings.Contains(name, ".env")
}

// poll replaces settled while inotify is used up. It returns true after a change that two looks saw alike.
func (w *appsWatch) poll(ctx context.Context, cause error, ready *chan<- struct{}) bool {
	w.close()
	if !w.polls {
		w.log.Warn("apps are not watched, reading them periodically", "path", w.dir, "wait", w.every, "error", cause)
		w.polls = true
		w.last = w.stamp()
		w.told = w.last
		w.ask() // something may have changed since the last event
	}
	closeOnce(ready)
	pause(ctx, w.every)
	now := w.stamp()
	steady := now == w.last
	w.last = now
	if !steady || now == w.told {
		return false
	}
	w.told = now
	return true
}

// stamp changes when an entry of the directories does.
func (w *appsWatch) stamp() string {
	var b strings.Builder
	for _, dir := range w.dirs() {
		entries, _ := os.ReadDir(dir) // a directory that cannot be read counts as empty; Read reports it
		for _, e := range entries {
			info, err := os.Lstat(filepath.Join(dir, e.Name()))
			if err != nil || !info.IsDir() && !relevant(e.Name()) {
				continue
			}
			fmt.Fprintln(&b, dir, e.Name(), info.Mode(), busy(filepath.Join(dir, e.Name())))
			if !info.IsDir() {
				fmt.Fprintln(&b, info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return b.String()
}

// busy reports whether a process has a file open for writing.
func busy(path string) bool {
	f, err := plainfile.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() // releases the lease
	return load.Lease(f) != nil
}

func closeOnce(c *chan<- struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
