// Package oneoff owns the first process of a container in which a person runs one command (osctl run): it starts
// nothing, reaps processes that have lost their parent, and ends when nothing else runs in the container. So the
// container ends with the command, even if the caller has died meanwhile. Read Main first.
package oneoff

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// look is how often it is seen whether anything runs.
	look = time.Second
	// patience is how long nothing may run before anything has: who asked for the container may have died meanwhile.
	patience = time.Minute
)

// Main is the applet hold. It ends on SIGTERM.
func Main(ctx context.Context, _ []string) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	tick := time.NewTicker(look)
	defer tick.Stop()
	w := watch{begin: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return 0
		case <-children:
			reap()
		case now := <-tick.C:
			reap()
			if w.over(now, alone()) {
				return 0
			}
		}
	}
}

// watch decides when it is over.
type watch struct {
	begin time.Time
	seen  bool // something has run
}

func (w *watch) over(now time.Time, alone bool) bool {
	w.seen = w.seen || !alone
	return alone && (w.seen || now.Sub(w.begin) >= patience)
}

// alone reports whether no other process is in the namespace.
func alone() bool { return errors.Is(unix.Kill(-1, 0), unix.ESRCH) }

func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
