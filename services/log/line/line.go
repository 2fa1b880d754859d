// Package line owns the form of the lines that our daemons log: a syslog priority, a message, attributes. logd reads
// it, and people read it on a console without the priority. It never decides where the lines go. Read Handler.
package line

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Handler writes log records as short lines: to Pipe with a syslog priority in front, for logd or the kernel log, and
// to Console for people in front of a development device. Both writers must never block. A nil writer gets nothing.
type Handler struct {
	out   *outputs
	attrs string // already rendered
	group string
}

type outputs struct {
	mu      sync.Mutex // guards the writers, so that lines do not mix
	pipe    io.Writer
	console io.Writer
}

// New returns a Handler on both writers.
func New(pipe, console io.Writer) *Handler {
	return &Handler{out: &outputs{pipe: pipe, console: console}}
}

// Redirect sends all further lines elsewhere. It reaches every logger derived from h.
func (h *Handler) Redirect(pipe, console io.Writer) {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.pipe, h.out.console = pipe, console
}

// Enabled implements slog.Handler: everything but debug.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	line := make([]byte, 0, 200)
	line = append(line, '<', priority(r.Level), '>')
	head := len(line)
	line = appendPlain(line, r.Message)
	line = append(line, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		line = appendAttr(line, h.group, a)
		return true
	})
	line = append(line, '\n')
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	// A log that cannot be written has nowhere to complain.
	if h.out.pipe != nil {
		_, _ = h.out.pipe.Write(line)
	}
	if h.out.console != nil {
		_, _ = h.out.console.Write(append([]byte("resinos: "), line[head:]...))
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	line := []byte(h.attrs)
	for _, a := range attrs {
		line = appendAttr(line, h.group, a)
	}
	return &Handler{out: h.out, attrs: string(line), group: h.group}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{out: h.out, attrs: h.attrs, group: h.group + name + "."}
}

// priority is the syslog severity of a level, as one digit.
func priority(level slog.Level) byte {
	switch {
	case level >= slog.LevelError:
		return '3'
	case level >= slog.LevelWarn:
		return '4'
	case level >= slog.LevelInfo:
		return '6'
	}
	return '7'
}

func appendAttr(line []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, inner := range v.Group() {
			line = appendAttr(line, group+a.Key+".", inner)
		}
		return line
	}
	line = append(append(append(append(line, ' '), group...), a.Key...), '=')
	text := v.String()
	if v.Kind() == slog.KindDuration {
		text = v.Duration().Round(10 * time.Microsecond).String()
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r == '"' || r == '=' ||
			r >= 0x7f
	}) {
		return strconv.AppendQuote(line, text)
	}
	return append(line, text...)
}

// appendPlain keeps a stranger's escape sequences and line ends away from the console and the log's line format.
func appendPlain(line []byte, text string) []byte {
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			r = '?'
		}
		line = append(line, string(r)...)
	}
	return line
}
