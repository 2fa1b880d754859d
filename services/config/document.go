package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The limits of a file. All are far above any real one; what exceeds them was made by accident, or is not a
// config.json.
const (
	maxSize  = 1 << 20
	maxDepth = 32
	maxKeys  = 2000
)

// byteOrderMark is what editors on other systems write at the beginning of a file.
const byteOrderMark = "\xef\xbb\xbf"

// Document is a config.json as it was written. A change of a key leaves every other byte as it is.
type Document struct {
	mark string // the byte order mark, or ""
	text string // valid JSON
	root node
}

// node is one value: text[start:end].
type node struct {
	start, end int
	members    []member // of an object, in the order of the file
}

type member struct {
	start int // of the name
	name  string
	value node
}

func (n node) object(text string) bool { return text[n.start] == '{' }

// find returns the member with a name. If there are several, the last one counts, as for every reader of JSON that we
// know.
func (n node) find(name string) (m member, found bool) {
	for _, one := range n.members {
		if one.name == name {
			m, found = one, true
		}
	}
	return m, found
}

// Parse reads a file. The error says what is wrong with it, and in which line.
func Parse(file []byte) (Document, error) {
	var d Document
	if len(file) > maxSize {
		return d, fmt.Errorf("longer than %d bytes", maxSize)
	}
	d.text = string(file)
	if strings.HasPrefix(d.text, byteOrderMark) {
		d.mark, d.text = byteOrderMark, d.text[len(byteOrderMark):]
	}
	switch {
	case strings.Trim(d.text, " \t\r\n") == "":
		return Document{}, errors.New("the file is empty")
	case strings.ContainsRune(d.text, 0):
		return Document{}, fmt.Errorf("line %d: NUL bytes", d.line(strings.IndexByte(d.text, 0)))
	case !utf8.ValidString(d.text):
		return Document{}, errors.New("not UTF-8")
	}
	if at := tooDeep(d.text); at >= 0 { // before encoding/json, which would allow 10,000 levels
		return Document{}, fmt.Errorf("line %d: nested deeper than %d levels", d.line(at), maxDepth)
	}
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(d.text), &raw); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return Document{}, fmt.Errorf("line %d: %w", d.line(int(syntax.Offset)-1), err)
		}
		return Document{}, err
	}
	s := scanner{text: d.text}
	if d.root = s.value(); s.keys > maxKeys {
		return Document{}, fmt.Errorf("more than %d keys", maxKeys)
	}
	if !d.root.object(d.text) {
		return Document{}, errors.New("not an object: it must begin with { and end with }")
	}
	return d, nil
}

// Empty returns the document of a device that has none.
func Empty() Document {
	d, err := Parse([]byte("{\n}\n"))
	if err != nil {
		panic(err) // this source code is wrong
	}
	return d
}

// Bytes returns the content of the file.
func (d Document) Bytes() []byte { return []byte(d.mark + d.text) }

// line returns the number of the line with the byte at.
func (d Document) line(at int) int {
	return 1 + strings.Count(d.text[:max(0, min(at, len(d.text)))], "\n")
}

// tooDeep returns where brackets are nested deeper than maxDepth, or -1.
func tooDeep(text string) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}

// scanner finds where the values of valid JSON begin and end.
type scanner struct {
	text string
	at   int
	keys int // counted so far
}

func (s *scanner) blanks() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

func (s *scanner) value() node {
	s.blanks()
	n := node{start: s.at}
	switch s.text[s.at] {
	case '{':
		n.members = s.members()
	case '[':
		s.list()
	case '"':
		s.quoted()
	default:
		for s.at < len(s.text) && strings.IndexByte(" \t\r\n,]}", s.text[s.at]) < 0 {
			s.at++
		}
	}
	n.end = s.at
	return n
}

func (s *scanner) quoted() string {
	start := s.at
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
	return s.text[start:s.at]
}

func (s *scanner) members() []member {
	var list []member
	for s.at++; ; s.at++ { // behind the bracket or the comma
		if s.blanks(); s.text[s.at] == '}' {
			s.at++
			return list
		}
		s.keys++
		m := member{start: s.at}
		_ = json.Unmarshal([]byte(s.quoted()), &m.name) // the file is valid
		s.blanks()
		s.at++ // the colon
		m.value = s.value()
		list = append(list, m)
		if s.blanks(); s.text[s.at] == '}' {
			s.at++
			return list
		}
	}
}

func (s *scanner) list() {
	for s.at++; ; s.at++ {
		if s.blanks(); s.text[s.at] == ']' {
			s.at++
			return
		}
		s.value()
		if s.blanks(); s.text[s.at] == ']' {
			s.at++
			return
		}
	}
}

// Get returns the value of a key as it is written; the names of nested keys are joined with dots.
func (d Document) Get(key string) (raw json.RawMessage, found bool) {
	at := d.root
	for part := range strings.SplitSeq(key, ".") {
		m, ok := at.find(part)
		if !ok {
			return nil, false
		}
		at = m.value
	}
	return json.RawMessage(d.text[at.start:at.end]), true
}

// inTheWay returns the part of a key whose value is not an object, so that the key cannot be set; empty if there is
// none. null does not count as a value.
func (d Document) inTheWay(key string) string {
	at := d.root
	parts := strings.Split(key, ".")
	for i, part := range parts[:len(parts)-1] {
		m, ok := at.find(part)
		if !ok || d.text[m.value.start:m.value.end] == "null" {
			return ""
		}
		if !m.value.object(d.text) {
			return strings.Join(parts[:i+1], ".")
		}
		at = m.value
	}
	return ""
}

// leaves calls each for every value that is not an object, or is an empty one, with its key with dots, as often as it
// is written.
func (d Document) leaves(each func(key string, raw json.RawMessage)) {
	var walk func(n node, prefix string)
	walk = func(n node, prefix string) {
		for _, m := range n.members {
			if len(m.value.members) > 0 {
				walk(m.value, prefix+m.name+".")
			} else {
				each(prefix+m.name, json.RawMessage(d.text[m.value.start:m.value.end]))
			}
		}
	}
	walk(d.root, "")
}

// twice lists the keys that are written more than once in one object.
func (d Document) twice() []string {
	var keys []string
	var walk func(n node, prefix string)
	walk = func(n node, prefix string) {
		seen := map[string]int{}
		for _, m := range n.members {
			if seen[m.name]++; seen[m.name] == 2 {
				keys = append(keys, prefix+m.name)
			}
			walk(m.value, prefix+m.name+".")
		}
	}
	walk(d.root, "")
	return keys
}

// With returns the document with a key set to a value in JSON. What is missing is added at the end of its object, in
// the style of the members there. It fails if a part of the key is not an object.
func (d Document) With(key string, value json.RawMessage) (Document, error) {
	parts := strings.Split(key, ".")
	at := d.root
	for i, part := range parts {
		m, found := at.find(part)
		if !found {
			return d.insert(at, parts[i:], value)
		}
		if i == len(parts)-1 {
			return d.splice(m.value.start, m.value.end, string(value))
		}
		if !m.value.object(d.text) {
			return d, fmt.Errorf("set %s: %s is there and no object", key, strings.Join(parts[:i+1], "."))
		}
		at = m.value
	}
	return d, nil
}

// insert adds a member to an object.
func (d Document) insert(object node, parts []string, value json.RawMessage) (Document, error) {
	text := string(value)
	for i := len(parts) - 1; i > 0; i-- {
		text = "{" + quote(parts[i]) + ": " + text + "}"
	}
	n := len(object.members)
	if n == 0 {
		end := "}"
		if object.start == d.root.start {
			end = "\n}"
			text = "\n  " + quote(parts[0]) + ": " + text
		} else {
			text = quote(parts[0]) + ": " + text
		}
		return d.splice(object.start, object.end, "{"+text+end)
	}
	last := object.members[n-1]
	before := object.start + 1
	if n > 1 {
		before = object.members[n-2].value.end
	}
	gap := d.text[before:last.start] // white space, and a comma unless it is the first
	gap = gap[strings.IndexByte(gap, ',')+1:]
	colon := d.text[last.start:last.value.start]
	colon = colon[strings.LastIndexByte(colon, '"')+1:]
	return d.splice(last.value.end, last.value.end, ","+gap+quote(parts[0])+colon+text)
}

// Without returns the document without a key, however often it is written.
func (d Document) Without(key string) (Document, error) {
	for {
		next, found, err := d.remove(key)
		if err != nil || !found {
			return next, err
		}
		d = next
	}
}

func (d Document) remove(key string) (next Document, found bool, err error) {
	parts := strings.Split(key, ".")
	at := d.root
	for _, part := range parts[:len(parts)-1] {
		m, ok := at.find(part)
		if !ok {
			return d, false, nil
		}
		at = m.value
	}
	for i, m := range at.members {
		if m.name != parts[len(parts)-1] {
			continue
		}
		from, to := m.start, m.value.end
		switch {
		case i+1 < len(at.members):
			to = at.members[i+1].start
		case i > 0:
			from = at.members[i-1].value.end
		default: // the only member: everything between the brackets is removed
			from = at.start + 1
			to = at.end - 1
		}
		next, err = d.splice(from, to, "")
		return next, true, err
	}
	return d, false, nil
}

func (d Document) splice(from, to int, text string) (Document, error) {
	return Parse([]byte(d.mark + d.text[:from] + text + d.text[to:]))
}

func quote(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}
