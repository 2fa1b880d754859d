package build

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress receives the progress of a build. Several goroutines call its methods.
type Progress interface {
	// Begin reports that a stage begins. The function that it returns reports its end, and whether the cache had its
	// result.
	Begin(stage string) (end func(cached bool))
	// Advance reports the progress of a download; total is 0 while it is not known.
	Advance(what string, done, total int64)
	// Note is a remark for the person who builds.
	Note(text string)
}

// Silent is a Progress that shows nothing.
type Silent struct{}

// Begin does nothing.
func (Silent) Begin(string) func(bool) { return func(bool) {} }

// Advance does nothing.
func (Silent) Advance(string, int64, int64) {}

// Note does nothing.
func (Silent) Note(string) {}

// Lines is a Progress for logs: one line for each stage that had work to do, none for results from the cache.
type Lines struct {
	mu  sync.Mutex // guards out and fetching
	out io.Writer
	// fetching is the last download that was announced, so that each one gives one line and not hundreds.
	fetching string
}

// NewLines returns a Lines that writes to out.
func NewLines(out io.Writer) *Lines { return &Lines{out: out} }

// Begin writes nothing until the stage ends.
func (l *Lines) Begin(stage string) func(bool) {
	start := time.Now()
	return func(cached bool) {
		if took := time.Since(start); !cached && took > 100*time.Millisecond {
			l.say("%s: %.1f s", stage, took.Seconds())
		}
	}
}

// Advance writes one line when a download begins.
func (l *Lines) Advance(what string, _, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if what == l.fetching {
		return
	}
	l.fetching = what
	if total > 0 {
		fmt.Fprintf(l.out, "%s (%.1f MB)\n", what, float64(total)/1e6) // progress: nothing depends on it
		return
	}
	fmt.Fprintln(l.out, what)
}

// Note writes the remark.
func (l *Lines) Note(text string) { l.say("note: %s", text) }

func (l *Lines) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...) // progress: nothing depends on it
}
