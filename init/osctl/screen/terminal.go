package osctl

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

// look fills in what the session's terminal can do.
func (s *session) look() {
	s.terminal = isTerminal(s.Stdout)
	s.colour = s.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	s.progress = isTerminal(s.Stderr)
	if s.terminal {
		s.columns, s.rows = terminalSize(s.Stdout)
		s.fancy = speaksUTF8(os.Getenv)
	}
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

func isTerminal(w any) bool {
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

// keys lets single keys be read from in until restore is called. Ctrl-C comes as a key too, so that restore always runs.
func keys(in *os.File) (restore func(), err error) {
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

// glyphs are the signs that status and graph draw with.
type glyphs struct {
	up, done, moving, off, wrong string
	branch, corner, bar          string // of a tree
	block                        string // of a bar
}

func (s *session) glyphs() glyphs {
	if s.fancy {
		return glyphs{"●", "✓", "◐", "○", "✗", "├─", "└─", "│ ", "█"}
	}
	return glyphs{"*", "+", "~", "o", "x", "|-", "`-", "| ", "#"}
}
