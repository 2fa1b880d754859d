package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// plain is a slog handler that writes `<N>message key=value` lines, N being the level of syslog(3),
// as the log ring reads them. The ring adds the time.
type plain struct {
	mu    *sync.Mutex // one line, one write
	w     io.Writer
	attrs string // already formatted, from With
}

func newPlain(w io.Writer) *plain { return &plain{mu: new(sync.Mutex), w: w} }

// Enabled drops debug.
func (p *plain) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle writes r as one line.
func (p *plain) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>%s%s", severity(r.Level), oneLine(r.Message), p.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, a); return true })
	b.WriteByte('\n')
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.w, b.String())
	return err
}

// WithAttrs returns a handler that adds attrs to each line.
func (p *plain) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, a)
	}
	q := *p
	q.attrs += b.String()
	return &q
}

// WithGroup is not needed by us; it keeps the names flat.
func (p *plain) WithGroup(string) slog.Handler { return p }

func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

func appendAttr(b *strings.Builder, a slog.Attr) {
	v := a.Value.Resolve().String()
	if v == "" || strings.ContainsAny(v, " \t\r\n\"=") {
		v = strconv.Quote(v)
	}
	b.WriteByte(' ')
	b.WriteString(a.Key)
	b.WriteByte('=')
	b.WriteString(v)
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", " | ") }
