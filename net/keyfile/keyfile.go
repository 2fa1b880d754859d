// Package keyfile owns the syntax of key files, the format in which NetworkManager keeps its configuration: groups of
// keys with values, as GLib's GKeyFile reads and writes them.
//
// It knows no group and no key by name (net/profile does), reads no file, and gives no value a meaning beyond text,
// lists, numbers and yes or no.
//
// Read first: File.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the largest key file that Parse reads. Certificates may be in it; nothing else is long.
const MaxSize = 1 << 20

// File is the content of a key file: its groups in the order in which they first appear.
type File struct {
	Groups []Group
}

// Group is a group of keys. If a file has several groups with one name, they are one.
type Group struct {
	Name string
	Line int // of its first heading
	Keys []Key
}

// Key is one key with its value as it is written: escapes are left to Text and List.
type Key struct {
	Name  string
	Value string
	Line  int
}

// Group returns the group with that name.
func (f File) Group(name string) (Group, bool) {
	for _, g := range f.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

// Key returns the key with that name.
func (g Group) Key(name string) (Key, bool) {
	for _, k := range g.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return Key{}, false
}

// Parse reads a key file. One line that is neither a group, a key, a comment nor empty makes GLib refuse the file, and
// Parse as well; the error names the first such line.
func Parse(text []byte) (File, error) {
	var f File
	if len(text) > MaxSize {
		return f, fmt.Errorf("the file has %d bytes, a key file has at most %d", len(text), MaxSize)
	}
	at := -1 // the index of the group that keys are added to
	number := 0
	for line := range bytes.SplitSeq(text, []byte{'\n'}) {
		number++
		text, _, _ := strings.Cut(string(line), "\x00") // GLib's lines are C strings
		text = strings.TrimLeft(strings.TrimSuffix(text, "\r"), " \t\v\f\r")
		if text == "" || text[0] == '#' {
			continue
		}
		if name, is := heading(text); is {
			if !groupName(name) {
				return File{}, fmt.Errorf("line %d: [%s] is not the name of a group", number, name)
			}
			at = f.open(name, number)
			continue
		}
		key, err := keyOf(text, number)
		if err != nil {
			return File{}, err
		}
		if at < 0 {
			return File{}, fmt.Errorf("line %d: a key before the first group", number)
		}
		if _, _, localized := strings.Cut(key.Name, "["); !localized {
			f.Groups[at].put(key)
		}
	}
	return f, nil
}

// open returns the index of the group with that name, which is added if there is none.
func (f *File) open(name string, line int) int {
	for i, g := range f.Groups {
		if g.Name == name {
			return i
		}
	}
	f.Groups = append(f.Groups, Group{Name: name, Line: line})
	return len(f.Groups) - 1
}

// put adds a key, which replaces an earlier one with its name.
func (g *Group) put(k Key) {
	for i := range g.Keys {
		if g.Keys[i].Name == k.Name {
			g.Keys[i] = k
			return
		}
	}
	g.Keys = append(g.Keys, k)
}

// heading returns the name of a group from its heading, and whether the line is one.
func heading(line string) (name string, is bool) {
	if line[0] != '[' || !strings.Contains(line, "]") {
		return "", false
	}
	name, rest, _ := strings.Cut(line[1:], "]")
	return name, strings.Trim(rest, " \t") == ""
}

func groupName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == '[' || r < ' ' || r == 0x7f })
}

var errLine = errors.New("neither a key, a group nor a comment")

// keyOf reads "name = value". White space around the sign is dropped, at the end of the value it is kept.
func keyOf(line string, number int) (Key, error) {
	name, value, found := strings.Cut(line, "=")
	name = strings.TrimRight(name, " \t\v\f\r")
	if !found {
		return Key{}, fmt.Errorf("line %d: %w", number, errLine)
	}
	if !keyName(name) {
		return Key{}, fmt.Errorf("line %d: the name of the key is not valid", number)
	}
	return Key{Name: name, Value: strings.TrimLeft(value, " \t\v\f\r"), Line: number}, nil
}

// keyName reports whether GLib takes the name: no control characters, and no brackets except around a language at its
// end.
func keyName(name string) bool {
	base, language, localized := strings.Cut(name, "[")
	if base == "" || strings.HasSuffix(base, " ") || strings.ContainsFunc(base, func(r rune) bool {
		return r == ']' || r < ' ' || r == 0x7f
	}) {
		return false
	}
	if !localized {
		return true
	}
	language, closed := strings.CutSuffix(language, "]")
	return closed && !strings.ContainsFunc(language, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.@", r)
	})
}

var errUTF8 = errors.New("the value is not UTF-8")

// Text returns the value with its escapes replaced: \s, \t, \n, \r and \\. Any other escape makes the value unusable.
func (k Key) Text() (string, error) {
	if !utf8.ValidString(k.Value) {
		return "", errUTF8
	}
	var b strings.Builder
	for i := 0; i < len(k.Value); i++ {
		if k.Value[i] != '\\' {
			b.WriteByte(k.Value[i])
			continue
		}
		i++
		c, err := escaped(k.Value, i)
		if err != nil {
			return "", err
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// List returns the parts of a value that semicolons separate. A semicolon at the end begins no further part; \; is one
// within a part.
func (k Key) List() ([]string, error) {
	if !utf8.ValidString(k.Value) {
		return nil, errUTF8
	}
	var parts []string
	var b strings.Builder
	for i := 0; i < len(k.Value); i++ {
		switch c := k.Value[i]; {
		case c == ';':
			parts = append(parts, b.String())
			b.Reset()
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(k.Value) && k.Value[i+1] == ';':
			i++
			b.WriteByte(';')
		default:
			i++
			e, err := escaped(k.Value, i)
			if err != nil {
				return nil, err
			}
			b.WriteByte(e)
		}
	}
	if b.Len() > 0 {
		parts = append(parts, b.String())
	}
	return parts, nil
}

// escapes are the letters that may follow a backslash, and what they stand for.
var escapes = [256]byte{'s': ' ', 't': '\t', 'n': '\n', 'r': '\r', '\\': '\\'}

// escaped returns the character that the letter at i stands for, which follows a backslash.
func escaped(value string, i int) (byte, error) {
	if i >= len(value) {
		return 0, errors.New("the value ends within an escape")
	}
	if c := escapes[value[i]]; c != 0 {
		return c, nil
	}
	return 0, fmt.Errorf("no escape is written \\%c; a backslash is written \\\\", value[i])
}
