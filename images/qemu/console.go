package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// consoleLines is the number of lines that a Console keeps, lineBytes the longest length of a line.
const (
	consoleLines = 4000
	lineBytes    = 4096
)

// A Console is the serial console of a guest. It keeps the last lines and lets callers wait for a line. Lines are
// counted from 0; Mark is the number of the next one.
type Console struct {
	input io.Writer

	mu      sync.Mutex // guards what follows
	lines   []string
	first   int // number of lines[0]
	partial []byte
	changed chan struct{} // closed and replaced by Write at each output; closed for good by finish
	ended   bool
	copies  map[int]io.Writer
	nextID  int
}

func newConsole(input io.Writer) *Console {
	return &Console{input: input, changed: make(chan struct{}), copies: map[int]io.Writer{}}
}

// Write adds output of the guest; it never fails.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.copies {
		_, _ = w.Write(p) // if a copy cannot be written, only its owner loses something
	}
	rest := p
	for {
		line, after, found := bytes.Cut(rest, []byte{'\n'})
		c.partial = append(c.partial, line...)
		if !found && len(c.partial) < lineBytes {
			break
		}
		c.lines = append(c.lines, clean(c.partial))
		c.partial = c.partial[:0]
		rest = after
	}
	if extra := len(c.lines) - consoleLines; extra > 0 {
		c.lines = append([]string(nil), c.lines[extra:]...)
		c.first += extra
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return len(p), nil
}

// finish informs those who wait that no more output will come.
func (c *Console) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.partial) > 0 {
		c.lines = append(c.lines, clean(c.partial))
		c.partial = nil
	}
	c.ended = true
	close(c.changed)
}

// Copy also writes all output from now on to w, until the returned function is called.
func (c *Console) Copy(w io.Writer) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	c.copies[id] = w
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.copies, id)
	}
}

// Send types s at the console.
func (c *Console) Send(s string) error {
	if _, err := io.WriteString(c.input, s); err != nil {
		return fmt.Errorf("type at the console: %w", err)
	}
	return nil
}

// Mark returns the number of the next line, to be used with Wait.
func (c *Console) Mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first + len(c.lines)
}

// Tail returns the last n lines, including an incomplete one.
func (c *Console) Tail(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all()
	return append([]string(nil), all[max(0, len(all)-n):]...)
}

// all returns all lines. The caller holds c.mu.
func (c *Console) all() []string {
	if len(c.partial) == 0 {
		return c.lines
	}
	return append(c.lines[:len(c.lines):len(c.lines)], clean(c.partial))
}

// Wait returns the first matching line from number mark on, including an incomplete one (a prompt has no newline). The
// error wraps io.EOF if the guest ends before, and the cause of ctx when that is done.
func (c *Console) Wait(ctx context.Context, mark int, match *regexp.Regexp) (string, error) {
	for {
		line, found, ended, changed := c.look(&mark, match)
		switch {
		case found:
			return line, nil
		case ended:
			return "", fmt.Errorf("wait for %q on the console: %w", match, io.EOF)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %q on the console: %w", match, context.Cause(ctx))
		}
	}
}

// look searches from *mark on and moves it behind the complete lines that it has seen.
func (c *Console) look(mark *int, match *regexp.Regexp) (line string, found, ended bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all()
	for _, l := range all[min(max(0, *mark-c.first), len(all)):] {
		if match.MatchString(l) {
			return l, true, c.ended, c.changed
		}
	}
	*mark = max(*mark, c.first+len(c.lines))
	return "", false, c.ended, c.changed
}

// clean removes carriage returns and the escape sequences of terminals (ECMA-48 CSI and OSC) from a line.
func clean(line []byte) string {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == 0x1b:
			i += escapeLength(line[i:]) - 1
		case line[i] < ' ' && line[i] != '\t', line[i] == 0x7f:
		default:
			b.WriteByte(line[i])
		}
	}
	return strings.ToValidUTF8(b.String(), "?")
}

func escapeLength(s []byte) int {
	if len(s) < 2 {
		return 1
	}
	switch s[1] {
	case '[': // parameters, then one final byte
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']': // text up to BEL or ESC
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b {
				return i
			}
		}
		return len(s)
	}
	return 2
}
