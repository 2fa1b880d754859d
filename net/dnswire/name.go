package dnswire

import (
	"errors"
	"fmt"
	"strings"
)

// Name is a domain name in wire form, in small letters: each label behind its length, and a zero at the end. Labels may
// hold any byte, so that no name is mistaken for another one. The zero value is no name.
type Name string

// maxName is the length of the longest name in wire form (RFC 1035, 3.1).
const maxName = 255

var errName = errors.New("name is not valid")

// NameOf returns the name that people write as text, with or without the last dot.
func NameOf(text string) (Name, error) {
	var b strings.Builder
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" && strings.Trim(text, ".") == "" {
			break // the root
		}
		if len(label) == 0 || len(label) > 63 {
			return "", fmt.Errorf("name %.80q: %w", text, errName)
		}
		b.WriteByte(byte(len(label)))
		b.WriteString(lower(label))
	}
	b.WriteByte(0)
	if b.Len() > maxName {
		return "", fmt.Errorf("name %.80q: %w", text, errName)
	}
	return Name(b.String()), nil
}

// Must is NameOf for names in source code.
func Must(text string) Name {
	n, err := NameOf(text)
	if err != nil {
		panic(err)
	}
	return n
}

// String returns the name as people write it, without the last dot. Bytes that are not printable, and dots within a
// label, are escaped as in zone files.
func (n Name) String() string {
	if n == "\x00" {
		return "."
	}
	var b strings.Builder
	for rest := n; len(rest) > 1; rest = rest[1+rest[0]:] {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		for _, c := range []byte(rest[1 : 1+rest[0]]) {
			switch {
			case c == '.' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c > '~':
				fmt.Fprintf(&b, "\\%03d", c)
			default:
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}

// Within reports whether n is the domain or below it.
func (n Name) Within(domain Name) bool {
	for rest := n; len(rest) >= len(domain) && len(rest) > 0; rest = rest[1+rest[0]:] {
		if rest == domain {
			return true
		}
		if rest[0] == 0 {
			return false
		}
	}
	return false
}

// Labels returns how many labels the name has; the root has none.
func (n Name) Labels() int {
	count := 0
	for rest := n; len(rest) > 1; rest = rest[1+rest[0]:] {
		count++
	}
	return count
}

// First returns the first label.
func (n Name) First() string {
	if len(n) < 2 {
		return ""
	}
	return string(n[1 : 1+n[0]])
}

// lower returns s with the letters of ASCII made small; all other bytes stay.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// readName reads the name at offset at in message p. It returns the name and the offset behind it. Pointers must point
// backwards, so that no message has a loop; each byte of the message is then read at most once for each pointer, of
// which there are at most maxPointers.
func readName(p []byte, at int) (Name, int, error) {
	var buf [maxName]byte
	size, end, pointers, limit := 0, -1, 0, at
	for {
		if at >= len(p) {
			return "", 0, errName
		}
		c := int(p[at])
		switch {
		case c == 0:
			if end < 0 {
				end = at + 1
			}
			buf[size] = 0
			return Name(buf[:size+1]), end, nil
		case c < 64:
			if at+1+c > len(p) || size+1+c+1 > maxName {
				return "", 0, errName
			}
			buf[size] = byte(c)
			for i, b := range p[at+1 : at+1+c] {
				if b >= 'A' && b <= 'Z' {
					b += 'a' - 'A'
				}
				buf[size+1+i] = b
			}
			size += 1 + c
			at += 1 + c
		case c >= 0xC0 && at+1 < len(p):
			if end < 0 {
				end = at + 2
			}
			to := (c&0x3F)<<8 | int(p[at+1])
			if pointers++; to >= limit || to < headerSize || pointers > maxPointers {
				return "", 0, errName
			}
			at, limit = to, to
		default:
			return "", 0, errName
		}
	}
}

const maxPointers = 32
