package testenv

import (
	"strings"
	"sync"
)

// Log collects text that several goroutines write, such as the lines of a slog handler or the output of a program. The
// zero Log is ready.
type Log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write appends p; it never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all that was written since the last Clear.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Has reports whether the text contains words.
func (l *Log) Has(words string) bool { return strings.Contains(l.String(), words) }

// Clear removes the text.
func (l *Log) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}
