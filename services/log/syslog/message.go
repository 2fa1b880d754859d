package syslog

import (
	"bytes"
	"strconv"
	"time"
)

// User is the name of messages that do not say who they are from, or whose tag is none.
const User = "user"

// maxTag is longer than the name of any program.
const maxTag = 48

// A Message is what one datagram says.
type Message struct {
	Priority int    // 0 emergency to 7 debug
	Facility string // kern, user, mail, ... local7
	Tag      string // User if there is none
	Text     []byte // part of the datagram; may hold any bytes
}

// Parse reads a datagram of syslog(3), which never fails: what is not understood is text.
//
//	<PRI>Mmm dd hh:mm:ss tag[pid]: text          RFC 3164 as libraries write it: no host; pid may be missing
//	<PRI>tag: text    <PRI>text                  libraries that leave the time to the daemon
//	<PRI>1 time host tag pid id [data] text      RFC 5424
//
// The time and the pid of the text are passed over: the kernel tells the sender's pid, and nobody else's clock counts.
func Parse(b []byte) Message {
	b = bytes.TrimRight(b, "\n\x00")
	pri, rest := splitPRI(b)
	m := Message{Priority: pri & 7, Facility: facility(pri >> 3), Tag: User}
	if body, ok := bytes.CutPrefix(rest, []byte("1 ")); ok {
		if tag, text, ok := parse5424(body); ok {
			m.Tag, m.Text = tag, text
			return m
		}
	}
	rest = trimTime(rest)
	if tag, text, ok := splitTag(rest); ok {
		m.Tag, m.Text = tag, text
		return m
	}
	m.Text = rest
	return m
}

// noPRI is user.notice, which RFC 3164 4.3.3 says of messages without one.
const noPRI = 13

func splitPRI(b []byte) (pri int, rest []byte) {
	end := bytes.IndexByte(b[:min(len(b), 5)], '>')
	if end < 2 || b[0] != '<' {
		return noPRI, b
	}
	for _, c := range b[1:end] {
		if c < '0' || c > '9' {
			return noPRI, b
		}
	}
	if pri, _ = strconv.Atoi(string(b[1:end])); pri > 191 {
		return noPRI, b
	}
	return pri, b[end+1:]
}

// trimTime takes "Mmm dd hh:mm:ss " off.
func trimTime(b []byte) []byte {
	const size = len(time.Stamp)
	if len(b) <= size || b[size] != ' ' {
		return b
	}
	if _, err := time.Parse(time.Stamp, string(b[:size])); err != nil {
		return b
	}
	return b[size+1:]
}

// splitTag takes "tag: " or "tag[pid]: " off.
func splitTag(b []byte) (tag string, text []byte, ok bool) {
	n := 0
	for n < len(b) && n <= maxTag && inTag(b[n]) {
		n++
	}
	rest := b[n:]
	if len(rest) > 0 && rest[0] == '[' {
		end := bytes.IndexByte(rest[:min(len(rest), 24)], ']')
		if end < 0 {
			return "", nil, false
		}
		rest = rest[end+1:]
	}
	if n == 0 || n > maxTag || len(rest) == 0 || rest[0] != ':' {
		return "", nil, false
	}
	if rest = rest[1:]; len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	} else if len(rest) > 0 {
		return "", nil, false // "http://..." is no tag
	}
	return string(b[:n]), rest, true
}

// inTag says what a program may be called; blanks and brackets end the name.
func inTag(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/' ||
		c == '@' || c == '+' || c == '.'
}

// parse5424 reads what follows the version.
func parse5424(b []byte) (tag string, text []byte, ok bool) {
	var field [5][]byte // time, host, tag, pid, id
	for i := range field {
		if field[i], b, ok = bytes.Cut(b, []byte(" ")); !ok || len(field[i]) == 0 {
			return "", nil, false
		}
	}
	if field[0][0] != '-' && bytes.IndexByte(field[0], 'T') < 0 {
		return "", nil, false // "1 apple is left" is an old message
	}
	if b, ok = trimElements(b); !ok {
		return "", nil, false
	}
	tag = User
	if t := field[2]; len(t) <= maxTag && !bytes.Equal(t, []byte("-")) &&
		bytes.IndexFunc(t, func(r rune) bool { return r > 0x7f || !inTag(byte(r)) }) < 0 {
		tag = string(t)
	}
	b = bytes.TrimPrefix(b, []byte(" "))
	return tag, bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), true
}

// trimElements takes the structured data off: "-", or elements in brackets whose values are quoted.
func trimElements(b []byte) (rest []byte, ok bool) {
	if rest, ok := bytes.CutPrefix(b, []byte("-")); ok {
		return rest, true
	}
	if len(b) == 0 || b[0] != '[' {
		return nil, false
	}
	for quoted, i := false, 0; i < len(b); i++ {
		switch {
		case b[i] == '\\' && quoted:
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == ']' && !quoted:
			if i+1 == len(b) || b[i+1] != '[' {
				return b[i+1:], true
			}
		}
	}
	return nil, false
}

func facility(n int) string {
	names := [...]string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
		"audit", "alert", "clock",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
	return names[n]
}
