package osctl

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// colour is an SGR number; 0 is none.
type colour int

const (
	plain  colour = 0
	bold   colour = 1
	dim    colour = 2
	red    colour = 31
	green  colour = 32
	yellow colour = 33
)

func (s *session) paint(c colour, text string) string {
	if !s.colour || c == plain || text == "" {
		return text
	}
	return "\x1b[" + strconv.Itoa(int(c)) + "m" + text + "\x1b[0m"
}

// cell is one field of a table.
type cell struct {
	text   string
	colour colour
	right  bool // numbers
}

// table lays rows out in columns, two blanks apart. The last column is not filled up.
func (s *session) table(rows [][]cell) string {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			if c.right {
				line.WriteString(fill)
			}
			line.WriteString(s.paint(c.colour, c.text))
			if !c.right {
				line.WriteString(fill)
			}
			line.WriteString("  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

func header(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		row[i] = cell{text: strings.TrimPrefix(name, ">"), colour: bold, right: strings.HasPrefix(name, ">")}
	}
	return row
}

// ago says a span the way a person would: its two largest units.
func ago(d time.Duration) string {
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

// escape makes bytes of a stranger harmless for a terminal: what is not printable is written as \xNN or \u{N}.
func escape(text string) string {
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

func printable(r rune) bool { return r == '\t' || unicode.IsPrint(r) }
