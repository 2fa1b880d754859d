package cli

import (
	"fmt"
	"sync"
	"time"

	"resinos/init/osctl/screen"
)

// Waiting shows on a terminal what the command waits for and for how long, until ended is called.
func (s *Session) Waiting(what string) (ended func()) {
	if !s.Progress {
		return func() {}
	}
	begin := time.Now()
	fmt.Fprintf(s.Stderr, "%s ...", what)
	done := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				fmt.Fprintf(s.Stderr, "\r%s ... %s\x1b[K", what, screen.Ago(now.Sub(begin)))
			}
		}
	})
	return func() {
		close(done)
		beside.Wait()
		fmt.Fprint(s.Stderr, "\r\x1b[K")
	}
}

// Since returns how long ago a moment was, which is given in seconds since the kernel started.
func (s *Session) Since(moment float64) time.Duration {
	return s.Now() - time.Duration(moment*float64(time.Second))
}
