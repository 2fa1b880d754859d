package appcommand

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// pulling shows on standard error how far the container images of an app are, until ended is called.
func pulling(s *cli.Session, a appcontrol.App) (ended func()) {
	done := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last := ""
		for {
			select {
			case <-done:
				if last != "" && s.Progress {
					fmt.Fprint(s.Stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
			}
			text := pulls(s, a)
			switch {
			case s.Progress && text+last != "":
				fmt.Fprintf(s.Stderr, "\r%s\x1b[K", s.Fit(text))
			case text != "" && text != last: // a log or a pipe gets a line for each change
				fmt.Fprintln(s.Stderr, text)
			}
			last = text
		}
	})
	return func() {
		close(done)
		beside.Wait()
	}
}

// pulls is what is being pulled for an app, in a line; empty: nothing.
func pulls(s *cli.Session, a appcontrol.App) string {
	status, err := published(s)
	if err != nil {
		return ""
	}
	list, err := pick(status, a.String())
	if err != nil {
		return ""
	}
	var out []string
	for _, c := range list {
		if c.Pull != nil {
			out = append(out, screen.Escape(c.ID)+": "+c.Pull.String())
		}
	}
	return strings.Join(out, ", ")
}
