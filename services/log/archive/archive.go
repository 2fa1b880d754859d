// Package archive owns the log that outlives the boot: it copies the ring's entries to the data partition when the
// owner wants that, in few and large writes, and gives up the oldest when its budget of bytes is used up.
//
// What is on flash is the only memory it has. Whoever opens the directory reads there up to which entry the boot's log
// is kept, so a process killed at any moment, or a power cut, costs what had not been flushed and never doubles an
// entry. Boots are told apart by the kernel's boot id and ordered by a number, since the clock may be wrong. It never
// makes the directory, nor writes a byte, while it is not wanted or while the data partition is not there; it never
// touches a file that is not a chunk of its own; and it never holds up the ring: on a full, broken or missing disk the
// log goes on in RAM. Read Config first, then Archive.Run.
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
	// DefaultInterval is how much of the log a power cut may cost.
	DefaultInterval = 5 * time.Minute

	// firstWait keeps the first flush of a boot out of the way of the boot.
	firstWait = 30 * time.Second
	// urgentWait lets the lines that explain an error come with it.
	urgentWait = time.Second
	// urgentBurst is how many errors are flushed at once in a row; each interval gives one back. So a device that does
	// nothing but complain writes twice as often as a quiet one.
	urgentBurst = 5
)

// Config says what is kept and where. Ring, Boot, Place and Log must be set.
type Config struct {
	Ring *ring.Ring
	Boot [16]byte // the kernel's boot id, which is the ring's
	// Place gives the directory and makes it, with its parents, when it is missing. It fails with an error that wraps
	// ErrAbsent while the file system that the directory belongs on is not there.
	Place Place

	Bytes    int64         // budget, all files together, in whole blocks of 4 KiB; DefaultBytes if 0
	Interval time.Duration // DefaultInterval if 0

	// Wanted says whether the log is kept now; nil never. Changed, which may be nil, tells that the answer may be
	// another one.
	Wanted  func() bool
	Changed <-chan struct{}

	Log *slog.Logger
	// Rested, if not nil, is called after each flush: deflating takes a megabyte, which comes back.
	Rested func()
}

// An Archive is the writer. Run does the work; Flush asks it to.
type Archive struct {
	Config
	requests chan chan error // answered by Run

	// The rest belongs to Run.
	out     *writer   // nil: not open
	due     time.Time // of the next flush; zero: there is nothing to write
	retry   bool      // due is the time of another try
	errands int       // urgent flushes that may still come at once
	earned  time.Time // when errands was right
	trouble bool      // has been said
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

// Run keeps the log until ctx is done; then it flushes once more and returns. While there is nothing to write it waits
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

// show has the place make the directory visible, which what earlier boots have said is read from. What is wrong with it
// the first flush says.
func (a *Archive) show() {
	if dir, err := a.Place.Open(); err == nil {
		_ = dir.Close() // nothing was written
	}
}

// wait waits for one event and serves it. It reports false when ctx is done.
func (a *Archive) wait(ctx context.Context) bool {
	if !a.Wanted() {
		return a.rest(ctx)
	}
	if a.due.IsZero() && a.out == nil { // the answer has changed without a word
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

// rest is wait while the log is not kept.
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

// next is the seq from which on nothing is on flash, as far as that is known.
func (a *Archive) next() uint64 {
	if a.out == nil {
		return 0
	}
	return a.out.next
}

// hurry brings the next flush forward. A disk that was found broken is not asked more often for that.
func (a *Archive) hurry(wait time.Duration) {
	soon := time.Now().Add(wait)
	if !a.retry && (a.due.IsZero() || soon.Before(a.due)) {
		a.due = soon
	}
}

// allowed pays for one urgent flush.
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

// flush writes what there is. What goes wrong is said once, and tried again after an interval.
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

// write brings the ring's entries to flash. It looks again if somebody has removed the files under it, and gives up one
// old file if the disk is full.
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

// open takes hold of the directory. One process at a time has it.
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

// drop lets go of a writer whose last flush failed; the next one looks at what is on flash.
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

// isFull reports whether the file system, or its quota, has no room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
