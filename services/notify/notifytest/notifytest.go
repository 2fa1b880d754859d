// Package notifytest plays PID 1 in tests of daemons: it supervises the process of a test and counts its watchdog
// messages. It is for tests only. Read Watch first.
package notifytest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"resinos/services/notify"
)

// Watch supervises this process until the test ends, with this time between two watchdog messages, and returns a
// channel that gets them. Messages that nobody receives are dropped.
func Watch(t testing.TB, every time.Duration) <-chan struct{} {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify.sock")
	l, err := notify.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(notify.Variable, path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(every.Microseconds(), 10))
	ctx, cancel := context.WithCancel(context.Background())
	signs, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		l.Run(ctx, notify.Receiver{ // ends when its context is cancelled
			Accept: func(_ notify.Sender, m notify.Message, _ []*os.File) {
				if !m.Watchdog {
					return
				}
				select {
				case signs <- struct{}{}:
				default:
				}
			},
			Refuse: func(_ notify.Sender, err error) { t.Error(err) },
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	return signs
}
