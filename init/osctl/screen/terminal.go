// Package screen lays out text for people: colours, tables that are cut to the width of the terminal, signs, spans and
// sizes in words, and the escaping of untrusted bytes. It never wraps a line, and never reads a device's state. Read
// Screen first.
package screen

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The size that is taken for a terminal that does not tell its own, as a serial line does not.
const (
	standardColumns = 80
	standardRows    = 24
)

// Screen is what the terminal of a call can do. The zero screen is no terminal: nothing is coloured or cut.
type Screen struct {
	Colour   bool
	Terminal bool // the output is one
	Progress bool // the talk goes to one
	Fancy    bool // it shows more than ASCII
	Columns  int  // its width; 0 cuts nothing
	Rows     int  // its height
}

// LookAt finds out what the terminal behind output and talk can do.
func LookAt(output, talk io.Writer) Screen {
	s := Screen{Terminal: IsTerminal(output), Progress: IsTerminal(talk)}
	s.Colour = s.Terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if s.Terminal {
		s.Columns, s.Rows = terminalSize(output)
		s.Fancy = speaksUTF8(os.Getenv)
	}
	return s
}

// speaksUTF8 reads the locale as setlocale(3) does: the first variable that is set counts.
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToUpper(getenv(name)); value != "" {
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}

// IsTerminal reports whether a reader or writer is a terminal.
func IsTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

func terminalSize(w io.Writer) (columns, rows int) {
	columns, rows = standardColumns, standardRows
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		columns = n
	}
	file, ok := w.(*os.File)
	if !ok {
		return columns, rows
	}
	if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
		columns, rows = int(size.Col), int(size.Row)
	}
	return columns, rows
}

// Keys lets single keys be read from in until restore is called. Ctrl-C comes as a key too, so that restore always
// runs.
func Keys(in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *before
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // the terminal may be gone
}

// Glyphs are the signs that status and graph draw with.
type Glyphs struct {
	Up, Done, Moving, Off, Wrong string
	Branch, Corner, Bar          string // of a tree
	Block                        string // of a bar
}

// Glyphs are the signs that this terminal shows.
func (s *Screen) Glyphs() Glyphs {
	if s.Fancy {
		return Glyphs{"●", "✓", "◐", "○", "✗", "├─", "└─", "│ ", "█"}
	}
	return Glyphs{"*", "+", "~", "o", "x", "|-", "`-", "| ", "#"}
}
