// Package placard owns what the screen of a device in development mode shows while nobody types there: the name of the
// device, its addresses, version, apps, last update and problems, in letters that a person reads from across a room. It
// runs in getty's process and starts no other; a key ends it. It changes nothing but the terminal. Read Show first,
// then Facts.Lines.
package placard

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
)

// The placard looks again when a file of the system in RAM changes, but not more often than settle, and every so often
// for what is in no file.
const (
	settle = time.Second
	every  = 30 * time.Second
)

// ofSystem is where the daemons write how apps, leases and updates stand.
const ofSystem = "run/resinos"

// Show draws on the terminal of this path until somebody presses a key there, and then leaves it as it was: cleared,
// with small letters. root is the root directory, for tests. The error is that of ctx, or of the terminal.
func Show(ctx context.Context, path, root string, log *slog.Logger) (err error) {
	// Not blocking, so that Go's poller waits for the key and no thread does.
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer tty.Close() // what was written is on the screen, or nobody sees it
	restore, err := listen(tty)
	if err != nil {
		return fmt.Errorf("listen to the keys of %s: %w", path, err)
	}
	letters := letters{tty: tty}
	defer func() {
		letters.small()
		_, _ = io.WriteString(tty, "\x1b[r\x1b[2J\x1b[H\x1b[?25h") // the shell follows
		restore()
	}()
	ctx, pressed := context.WithCancelCause(ctx)
	defer pressed(nil)
	reading := make(chan struct{})
	go func() { // ends with the key, or with the deadline below
		defer close(reading)
		_, err := tty.Read(make([]byte, 64))
		if err == nil {
			err = errPressed
		}
		pressed(err)
	}()
	err = follow(ctx, root, log, func(f Facts) { draw(tty, &letters, f) })
	_ = tty.SetReadDeadline(time.Unix(1, 0)) // wakes the read
	<-reading
	if context.Cause(ctx) == errPressed {
		return nil
	}
	return err
}

// errPressed is the cause of the end that everybody hopes for.
var errPressed = fmt.Errorf("a key was pressed")

// follow hands over the facts now, and whenever they may have changed, until ctx ends.
func follow(ctx context.Context, root string, log *slog.Logger, show func(Facts)) error {
	watch, err := dirwatch.Open(filepath.Join(root, ofSystem), unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE, log)
	if err != nil {
		return err
	}
	defer watch.Close() // nothing is written
	for {
		show(Observe(ctx, root))
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := watch.Wait(ctx, every); err != nil {
			return err
		}
	}
}

// listen has each key arrive at once, and none shown. restore undoes it.
func listen(tty *os.File) (restore func(), err error) {
	var before unix.Termios
	err = control(tty, func(fd int) error {
		now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		before = *now
		now.Lflag &^= unix.ICANON | unix.ECHO
		now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(fd, unix.TCSETS, now)
	})
	return func() {
		// TCSETSF: the key is not for the shell. A terminal that is gone needs nothing.
		_ = control(tty, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETSF, &before) })
	}, err
}

// draw writes all lines, from the top. What the kernel has written disappears, and what it writes from here on scrolls
// in the free rows above the last one and moves no other.
func draw(tty *os.File, l *letters, f Facts) {
	columns, rows := l.large()
	var b strings.Builder
	b.WriteString("\x1b[?25l\x1b[r\x1b[H")
	lines := f.Lines(columns-1, rows)
	wrong := false
	for i, line := range lines {
		wrong = strings.HasPrefix(line, "!") || wrong && strings.HasPrefix(line, again)
		switch {
		case i == 0:
			line = "\x1b[1m" + line + "\x1b[0m" // the name is bright
		case wrong:
			line = "\x1b[1;31m" + line + "\x1b[0m" // and what is wrong is red
		}
		// The rest of the row is cleared first: after the last column it would clear the last letter.
		b.WriteString("\x1b[K " + line) // some screens do not show their edge
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	if rows > 2*free { // a region that scrolls has two rows at least
		fmt.Fprintf(&b, "\x1b[%d;%dr\x1b[%dH", rows-free, rows-1, rows-free)
	}
	_, _ = io.WriteString(tty, b.String()) // a terminal that is gone ends the read for the key
}
