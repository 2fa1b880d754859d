package keyfile

import (
	"fmt"
	"strings"
)

// String returns the file in its syntax. Parse reads it back as the same groups and keys, with other lines.
func (f File) String() string {
	var b strings.Builder
	for i, g := range f.Groups {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[%s]\n", g.Name)
		for _, k := range g.Keys {
			fmt.Fprintf(&b, "%s=%s\n", k.Name, k.Value)
		}
	}
	return b.String()
}

// Quote returns the value of a key whose Text is text.
func Quote(text string) string { return quote(text, false) }

// QuoteList returns the value of a key whose List is parts.
func QuoteList(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(quote(p, true))
		b.WriteByte(';')
	}
	return b.String()
}

func quote(text string, list bool) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c == ' ' && (i == 0 || b.String() == strings.Repeat(`\s`, i)):
			b.WriteString(`\s`) // white space before a value is dropped
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\\':
			b.WriteString(`\\`)
		case c == ';' && list:
			b.WriteString(`\;`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
