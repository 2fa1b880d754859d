package app

import (
	"fmt"
	"strings"
)

// Fault is one thing in compose.yaml that keeps the app from running, or, as a warning, one that
// is left out.
type Fault struct {
	File string
	Line int    // 0 when it has none
	Path string // services.web.image; empty for the file as a whole
	Text string
}

// Error is `file:line: path: text`.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	return b.String() + f.Text
}

// Faults is all that is wrong with one file, in the order of its lines.
type Faults []Fault

// Error is one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}
