package kmod

import (
	"bytes"
	"slices"
)

// A matcher walks the sorted alias lines like a trie: for each byte of the modalias it keeps the lines that match so
// far, and looks separately at the lines with a wildcard in this place. Of some thousand lines it compares a few dozen.
type matcher struct {
	text     []byte
	modalias string
	names    []string
}

const aliasPrefix = "alias "

// fewBytes is the size below which going through a range is cheaper than narrowing it.
const fewBytes = 512

func (m *matcher) narrow() {
	lo, hi := 0, len(m.text)
	for n := 0; lo < hi; n++ {
		if hi-lo <= fewBytes || n == len(m.modalias) {
			m.compareAll(lo, hi)
			return
		}
		for _, wildcard := range []byte{'*', '?', '['} {
			m.compareAll(m.rangeOf(lo, hi, n, wildcard))
		}
		if c := m.modalias[n]; c == '*' || c == '?' || c == '[' || c == ' ' {
			return // no device has these
		}
		lo, hi = m.rangeOf(lo, hi, n, m.modalias[n])
	}
}

// rangeOf returns the lines between lo and hi whose pattern has the byte c at n. They agree in all bytes before n.
func (m *matcher) rangeOf(lo, hi, n int, c byte) (start, end int) {
	start = m.bound(lo, hi, n, int(c))
	return start, m.bound(start, hi, n, int(c)+1)
}

// bound returns the start of the first line between lo and hi whose pattern has at n a byte of at least c.
func (m *matcher) bound(lo, hi, n, c int) int {
	for lo < hi {
		start, end := lineAt(m.text, lo+(hi-lo)/2)
		at := start + len(aliasPrefix) + n
		if at < end && int(m.text[at]) >= c {
			hi = start
		} else {
			lo = min(end+1, hi)
		}
	}
	return lo
}

func (m *matcher) compareAll(lo, hi int) {
	for lo < hi {
		_, end := lineAt(m.text, lo)
		line := m.text[lo:end]
		lo = end + 1
		pattern, name, found := bytes.Cut(bytes.TrimPrefix(line, []byte(aliasPrefix)), []byte{' '})
		if found && matches(pattern, m.modalias) && !slices.Contains(m.names, string(name)) {
			m.names = append(m.names, string(name))
		}
	}
}

// matches is fnmatch(3) without flags, except that \ does not escape: the aliases of the kernel contain none.
func matches(pattern []byte, s string) bool {
	star, retry := -1, 0 // where to continue if what follows the last * does not match
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, retry = p, i
			p++
			continue
		}
		if width, ok := one(pattern[p:], s[i]); ok {
			p, i = p+width, i+1
			continue
		}
		if star < 0 {
			return false
		}
		retry++
		p, i = star+1, retry
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one matches a single byte and returns the length of the part of the pattern that it used.
func one(pattern []byte, c byte) (width int, ok bool) {
	switch {
	case len(pattern) == 0:
		return 0, false
	case pattern[0] == '?':
		return 1, true
	case pattern[0] != '[':
		return 1, pattern[0] == c
	}
	end := bytes.IndexByte(pattern, ']')
	if end < 0 {
		return 1, c == '['
	}
	set := pattern[1:end]
	negated := len(set) > 0 && (set[0] == '!' || set[0] == '^')
	if negated {
		set = set[1:]
	}
	return end + 1, inSet(set, c) != negated
}

func inSet(set []byte, c byte) bool {
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= c && c <= set[i+2] {
				return true
			}
			i += 2
			continue
		}
		if set[i] == c {
			return true
		}
	}
	return false
}
