package screen

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colour is an SGR number; 0 is none.
type Colour int

// The colours that we use.
const (
	Plain  Colour = 0
	Bold   Colour = 1
	Dim    Colour = 2
	Red    Colour = 31
	Green  Colour = 32
	Yellow Colour = 33
)

// Paint gives text a colour, where the terminal shows colours.
func (s *Screen) Paint(c Colour, text string) string {
	if !s.Colour || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + strconv.Itoa(int(c)) + "m" + text + "\x1b[0m"
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
	Right  bool // numbers
	Tight  bool // one blank behind it, not two
	Wide   bool // a heading: it makes no column wider
}

// Table lays rows out in columns, two blanks apart. The last column is not filled up, and what the terminal has no room
// for is cut.
func (s *Screen) Table(rows [][]Cell) string {
	var widths []int
	for _, row := range rows {
		for i := range row {
			row[i].Text = strings.ReplaceAll(row[i].Text, "\t", " ") // a tab has no width of its own
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if !row[i].Wide {
				widths[i] = max(widths[i], Width(row[i].Text))
			}
		}
	}
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(s.line(row, widths))
		b.WriteByte('\n')
	}
	return b.String()
}

// line lays out one row of a table.
func (s *Screen) line(row []Cell, widths []int) string {
	for len(row) > 0 && row[len(row)-1].Text == "" {
		row = row[:len(row)-1]
	}
	left := s.Columns
	if left <= 0 {
		left = 1 << 20
	}
	var b strings.Builder
	blanks := func(n int) {
		n = max(0, min(n, left))
		b.WriteString(strings.Repeat(" ", n))
		left -= n
	}
	for i, c := range row {
		fill := widths[i] - Width(c.Text)
		if c.Right {
			blanks(fill)
			fill = 0
		}
		text := s.cut(c.Text, left)
		b.WriteString(s.Paint(c.Colour, text))
		left -= Width(text)
		if i == len(row)-1 {
			break
		}
		if fill = max(fill, 0) + 2; c.Tight {
			fill--
		}
		blanks(fill)
	}
	text := b.String()
	if s.Colour {
		return text
	}
	return strings.TrimRight(text, " ")
}

// cut shortens text to n columns; an ellipsis tells that it was.
func (s *Screen) cut(text string, n int) string {
	if Width(text) <= n {
		return text
	}
	ellipsis := "..."
	if s.Fancy {
		ellipsis = "…"
	}
	room := n - Width(ellipsis)
	if room < 0 {
		return strings.Repeat(".", max(0, n)) // no room for words
	}
	for i, r := range text {
		if room -= runeWidth(r); room < 0 {
			return text[:i] + ellipsis
		}
	}
	return text
}

// Fit cuts a line that is no table's.
func (s *Screen) Fit(text string) string {
	if s.Columns <= 0 {
		return text
	}
	return s.cut(text, s.Columns)
}

// Lead cuts a line to the terminal's width and paints the word that it begins with.
func (s *Screen) Lead(c Colour, word, text string) string {
	text = s.Fit(text)
	if rest, whole := strings.CutPrefix(text, word); whole {
		return s.Paint(c, word) + rest
	}
	return s.Paint(c, text)
}

// Width is how many columns text takes on a terminal.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

// runeWidth knows what a service's name or message may hold: East Asian wide characters take two columns, marks none.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 &&
			r <= 0x1faff, r >= 0x20000:
		return 2
	}
	return 1
}

// Header is the first row of a table. A name that begins with > heads a column of numbers.
func Header(names ...string) []Cell {
	row := make([]Cell, len(names))
	for i, name := range names {
		row[i] = Cell{Text: strings.TrimPrefix(name, ">"), Colour: Bold, Right: strings.HasPrefix(name, ">")}
	}
	return row
}

// Ago says a span the way a person would: its two largest units.
func Ago(d time.Duration) string {
	units := []struct {
		span time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	d = max(d, 0)
	for i, u := range units {
		if d < u.span {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.span, u.name)
		if i+1 < len(units) {
			if rest := d % u.span / units[i+1].span; rest > 0 {
				text += fmt.Sprintf(" %d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}

// Escape makes bytes of a stranger harmless for a terminal: what is not printable is written as \xNN or \u{N}.
func Escape(text string) string {
	clean := true
	for _, r := range text {
		if !printable(r) || r == utf8.RuneError {
			clean = false
			break
		}
	}
	if clean {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && !printable(r):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !printable(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(text[i : i+size])
		}
		i += size
	}
	return b.String()
}

// InLine is escape for a text of several lines, such as errors that were joined, which must stand in one.
func InLine(text string) string {
	return Escape(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}

// EscapeLines is escape for a text of several lines.
func EscapeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = Escape(lines[i])
	}
	return strings.Join(lines, "\n")
}

func printable(r rune) bool { return r == '\t' || unicode.IsPrint(r) }

// Size says bytes the way a person would: three digits at most and a unit. What is not known is "-".
func Size(bytes int64) string {
	if bytes < 0 {
		return "-"
	}
	if bytes < 1024 {
		return strconv.FormatInt(bytes, 10)
	}
	n := float64(bytes)
	unit := 0
	for n >= 999.5 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	if n < 9.95 {
		return strconv.FormatFloat(n, 'f', 1, 64) + "BKMGT"[unit:unit+1]
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + "BKMGT"[unit:unit+1]
}

// Count says how many there are of something.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Pair makes a row of the detail view; the label comes first.
func Pair(label, value string, c Colour) []Cell {
	return []Cell{{Text: label, Right: true, Colour: Dim}, {Text: InLine(value), Colour: c}}
}

// Seconds says a moment of the boot.
func Seconds(at float64) string { return fmt.Sprintf("%.3fs", at) }

// Span says how many seconds something took.
func Span(took float64) string {
	if took < 0.9995 {
		return fmt.Sprintf("%.0fms", took*1000)
	}
	return Seconds(took)
}
