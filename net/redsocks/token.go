package redsocks

import (
	"fmt"
	"strings"
)

// token is a word, a string or a mark of the file.
type token struct {
	line   int
	text   string
	quoted bool // the text stood between quotes
}

// mark reports whether the token is this one: {, }, = or ;.
func (t token) mark(m string) bool { return !t.quoted && t.text == m }

// sign reports whether the token is one of the marks.
func (t token) sign() bool { return t.mark("{") || t.mark("}") || t.mark("=") || t.mark(";") }

// escape returns what is meant by a letter behind a backslash in a string.
func escape(c byte) (byte, bool) {
	i := strings.IndexByte(`ntr\'"`, c)
	if i < 0 {
		return 0, false
	}
	return "\n\t\r\\'\""[i], true
}

func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '-'
}

func digit(c byte) bool { return '0' <= c && c <= '9' || c == '.' }

// tokens cuts the text as redsocks does. An unquoted word that begins with a digit consists of digits, dots and
// slashes, every other one of letters, digits, dots, hyphens and underscores.
func tokens(text string) ([]token, error) {
	var out []token
	line := 1
	for i := 0; i < len(text); {
		c := text[i]
		start := i
		switch {
		case c == '\n':
			line++
			i++
		case c == ' ' || '\t' <= c && c <= '\r':
			i++
		case strings.HasPrefix(text[i:], "//"):
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case strings.HasPrefix(text[i:], "/*"):
			length := strings.Index(text[i:], "*/")
			if length < 0 {
				return nil, fault(line, "the comment does not end: */ is missing")
			}
			line += strings.Count(text[i:i+length], "\n")
			i += length + len("*/")
		case strings.IndexByte("{}=;", c) >= 0:
			i++
			out = append(out, token{line: line, text: text[start:i]})
		case c == '"':
			value, length, err := quotedString(text[i:], line)
			if err != nil {
				return nil, err
			}
			i += length
			out = append(out, token{line: line, text: value, quoted: true})
		case digit(c) && c != '.':
			for i < len(text) && (digit(text[i]) || text[i] == '/' && i+1 < len(text) && digit(text[i+1])) {
				i++
			}
			out = append(out, token{line: line, text: text[start:i]})
		case letter(c) && c != '_' && c != '-':
			for i < len(text) && (letter(text[i]) || digit(text[i])) {
				i++
			}
			out = append(out, token{line: line, text: text[start:i]})
		case c == '#':
			return nil, fault(line, "# begins no comment here; write //")
		default:
			return nil, fault(line, "a character that only a value between quotes may have")
		}
	}
	return out, nil
}

// quotedString reads a string with its quotes; length is how much of text it takes.
func quotedString(text string, line int) (value string, length int, err error) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), i + 1, nil
		case '\n', 0:
			return "", 0, fault(line, "the quote does not end on its line")
		case '\\':
			if i++; i == len(text) {
				break
			}
			meant, known := escape(text[i])
			if !known {
				return "", 0, fault(line, `behind \ may stand n, t, r, \, ' and "`)
			}
			b.WriteByte(meant)
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fault(line, "the quote does not end on its line")
}

// fault is an error that names the line.
func fault(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}
