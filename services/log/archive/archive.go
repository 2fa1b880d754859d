// Package archive owns the log that outlives the boot: it copies the ring's entries to the data partition when the
// owner wants that, in few and large writes, and removes the oldest when its budget of bytes is used up.
//
// It has no state except the files on flash: after a kill or a power cut it reads there up to which entry the boot's
// log is kept. A kill therefore costs only the entries that were not flushed, and never doubles an entry. The kernel's
// boot id distinguishes boots, and a number orders them, because the clock may be wrong. While the log is not wanted,
// or the data partition is missing, it creates no directory and writes nothing. It never changes a file that is not one
// of its chunks, and never blocks the ring: on a full, broken or missing disk the log continues in RAM. Read Config
// first, then Archive.Run.
package archive

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/log/ring"
)

const (
	// DefaultBytes is the budget on flash. Deflated it holds 20 MB of text and more: a month of a quiet device, or 250
	// boots (docs/decisions/0018-log-on-disk.md).
	DefaultBytes = 8 << 20
	// DefaultInterval is the longest time whose entries a power cut loses.
	DefaultInterval = 5 * time.Minute

	// firstWait delays the first flush until the boot is over.
	firstWait = 30 * time.Second
	// urgentWait is the delay after an error, so that the lines that explain it are flushed too.
	urgentWait = time.Second
	// urgentBurst is how many errors in a row are flushed at once; each interval allows one more. A device with
	// permanent errors therefore writes twice as often as a quiet one.
	urgentBurst = 5
)

// Config says which log is kept, and where. Ring, Boot, Place and Log must be set.
type Config struct {
	Ring *ring.Ring
	Boot [16]byte // the kernel's boot id, which is the ring's
	// Place opens the directory, and creates it with its parents if it is missing. Its error wraps ErrAbsent while the
	// file system of the directory is not attached.
	Place Place

	Bytes    int64         // budget, all files together, in whole blocks of 4 KiB; DefaultBytes if 0
	Interval time.Duration // DefaultInterval if 0

	// Wanted reports whether the log is to be kept now; nil: never. Changed, which may be nil, gets a value when the
	// answer may have changed.
	Wanted  func() bool
	Changed <-chan struct{}

	Log *slog.Logger
	// Rested, if not nil, is called after each flush: deflating takes a megabyte, which is freed afterwards.
	Rested func()
}

// An Archive writes the log to disk. Run does the work; Flush requests a write.
type Archive struct {
	Config
	requests chan chan error // answered by Run

	// The rest belongs to Run.
	out     *writer   // nil: not open
	due     time.Time // of the next flush; zero: nothing is to be written
	retry   bool      // due is the time of another try
	errands int       // urgent flushes that are still allowed at once
	earned  time.Time // the time for which errands holds
	trouble bool      // a fault was logged
}

// ErrOff is what Flush returns when the log is not kept.
var ErrOff = errors.New("the log is not kept on disk")

// New prepares an archive; nothing is opened before Run.
func New(c Config) *Archive {
	if c.Bytes == 0 {
		c.Bytes = DefaultBytes
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Wanted == nil {
		c.Wanted = func() bool { return false }
	}
	return &Archive{Config: c, requests: make(chan chan error), errands: urgentBurst}
}

// Flush writes what is not yet on flash, and returns when the disk has it. It returns ErrOff when the log is not kept.
func (a *Archive) Flush(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case a.requests <- answer:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run writes the log until ctx is done; then it flushes once more and returns. While nothing is to be written it waits
// for the ring without a timer.
func (a *Archive) Run(ctx context.Context) {
	defer a.Place.Close()
	defer a.close()
	a.earned = time.Now()
	if a.Wanted() {
		a.due = time.Now().Add(min(firstWait, a.Interval))
		a.show()
	}
	for a.wait(ctx) {
	}
	if a.Wanted() {
		a.flush(context.WithoutCancel(ctx))
	}
}

// show makes the place bind the directory, so that the log of earlier boots can be read. The first flush reports a
// fault of the directory.
func (a *Archive) show() {
	if dir, err := a.Place.Open(); err == nil {
		_ = dir.Close() // nothing was written
	}
}

// wait waits for one event and handles it. It returns false when ctx is done.
func (a *Archive) wait(ctx context.Context) bool {
	if !a.Wanted() {
		return a.rest(ctx)
	}
	if a.due.IsZero() && a.out == nil { // Wanted has changed without a value from Changed
		a.due = time.Now().Add(urgentWait)
	}
	var more <-chan struct{}
	if a.due.IsZero() {
		more = a.Ring.Changed(a.out.next)
	}
	alarm := time.NewTimer(max(time.Until(a.due), 0))
	defer alarm.Stop()
	var expired <-chan time.Time
	if more == nil {
		expired = alarm.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-a.Changed:
	case <-more:
		a.due = time.Now().Add(a.Interval)
	case <-expired:
		a.flush(ctx)
	case <-a.Place.Changed():
		a.Place.Close()
		a.hurry(urgentWait)
	case <-a.Ring.Urgent():
		if a.allowed() {
			a.hurry(urgentWait)
		}
	case <-a.Ring.Full():
		if a.Ring.Presses(a.next()) {
			a.hurry(0)
		}
	case answer := <-a.requests:
		answer <- a.flush(ctx)
	}
	return true
}

// rest replaces wait while the log is not kept.
func (a *Archive) rest(ctx context.Context) bool {
	a.close()
	a.trouble = false
	select {
	case <-ctx.Done():
		return false
	case <-a.Changed:
		if a.Wanted() {
			a.due = time.Now().Add(urgentWait)
		}
	case answer := <-a.requests:
		answer <- ErrOff
	}
	return true
}

// next returns the seq of the first entry that is not known to be on flash.
func (a *Archive) next() uint64 {
	if a.out == nil {
		return 0
	}
	return a.out.next
}

// hurry makes the next flush earlier, except for a retry on a broken disk.
func (a *Archive) hurry(wait time.Duration) {
	soon := time.Now().Add(wait)
	if !a.retry && (a.due.IsZero() || soon.Before(a.due)) {
		a.due = soon
	}
}

// allowed counts one urgent flush, and reports whether it is within the limit.
func (a *Archive) allowed() bool {
	now := time.Now()
	if earned := int(now.Sub(a.earned) / a.Interval); earned > 0 {
		a.errands = min(a.errands+earned, urgentBurst)
		a.earned = a.earned.Add(time.Duration(earned) * a.Interval)
	}
	if a.errands == 0 {
		return false
	}
	a.errands--
	return true
}

// flush writes the new entries. A fault is logged once, and the flush is tried again after an interval.
func (a *Archive) flush(ctx context.Context) error {
	err := a.write(ctx)
	if a.Rested != nil {
		a.Rested()
	}
	if err == nil {
		a.due, a.retry = time.Time{}, false
		if a.trouble {
			a.trouble = false
			a.Log.Info("log is kept on disk again")
		}
		return nil
	}
	a.drop()
	a.due, a.retry = time.Now().Add(a.Interval), !errors.Is(err, ErrAbsent)
	if !a.trouble {
		a.trouble = true
		a.Log.Warn("log not kept on disk, it continues in memory", "wait", a.Interval, "error", err)
	}
	return err
}

// write writes the ring's entries to flash. If somebody has removed its files it opens the directory again; if the disk
// is full it removes one old file.
func (a *Archive) write(ctx context.Context) error {
	for try := range 2 {
		if a.out == nil {
			out, err := a.open()
			if err != nil {
				return err
			}
			a.out = out
		}
		err := a.out.flush(ctx, a.Ring)
		again := errors.Is(err, errGone) || isFull(err) && a.out.store.giveUp(a.out.current())
		if err == nil || try > 0 || !again {
			return err
		}
		a.drop()
	}
	return nil // not reached: the second try returns
}

// open opens and locks the directory, which one process at a time may use.
func (a *Archive) open() (*writer, error) {
	dir, err := a.Place.Open()
	if err != nil {
		return nil, err
	}
	d, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	w, err := newWriter(d, a.Config)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return w, nil
}

// drop closes a writer whose last flush failed; the next writer reads what is on flash.
func (a *Archive) drop() {
	if a.out != nil {
		a.out.undo()
		a.close()
	}
}

func (a *Archive) close() {
	if a.out != nil {
		a.out.close()
		a.out = nil
	}
	a.due, a.retry = time.Time{}, false
}

// isFull reports whether the file system, or its quota, is full.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
