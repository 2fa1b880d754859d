package definition

import (
	"errors"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/services/spec/keys"
)

// source is one file of TOML that was read but not judged.
type source struct {
	file string
	text string
	md   toml.MetaData
	top  map[string]toml.Primitive
}

// read decodes TOML. What keeps it from being TOML at all is the only fault it finds.
func read(file string, data []byte) (*source, *keys.Fault) {
	s := &source{file: file, text: string(data), top: map[string]toml.Primitive{}}
	if len(data) > MaxSize {
		return s, &keys.Fault{File: file, Text: "file is larger than 64 KiB", Hint: "a service file is a few lines"}
	}
	var err error
	if s.md, err = toml.Decode(s.text, &s.top); err != nil {
		return s, syntaxFault(file, err)
	}
	return s, nil
}

func syntaxFault(file string, err error) *keys.Fault {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return &keys.Fault{File: file, Line: pe.Position.Line, Key: pe.LastKey, Text: pe.Message}
	}
	return &keys.Fault{File: file, Text: err.Error()}
}

// value returns what the file says of a top-level key.
func (s *source) value(name string) (v any) {
	s.md.PrimitiveDecode(s.top[name], &v) // into an any, which takes everything
	return v
}

// line finds where a key stands, or a key in its table. Only faults ask, so it may be slow.
func (s *source) line(name, sub string) int {
	prim, word := s.top[name], name
	if sub != "" {
		var table map[string]toml.Primitive
		if s.md.PrimitiveDecode(prim, &table) == nil {
			prim, word = table[sub], sub
		}
	}
	if n := lineOf(s.md.PrimitiveDecode(prim, position{})); n != 0 {
		return n
	}
	if n := search(s.text, word); n != 0 || sub == "" {
		return n // a dotted key makes tables without a place
	}
	return search(s.text, name)
}

// errPosition is what position.UnmarshalTOML always returns: the TOML reader tells the line of a
// key only inside an error.
var errPosition = errors.New("position wanted")

type position struct{}

// UnmarshalTOML implements toml.Unmarshaler; it always fails, see errPosition.
func (position) UnmarshalTOML(any) error { return errPosition }

func lineOf(err error) int {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return pe.Position.Line
	}
	return 0
}

// search finds the first line that begins with name as a key or a table.
func search(text, name string) int {
	n := 0
	for line := range strings.Lines(text) {
		n++
		rest, found := strings.CutPrefix(strings.TrimLeft(line, " \t[\"'"), name)
		if found && rest != "" && strings.ContainsRune(".=] \t\"'", rune(rest[0])) {
			return n
		}
	}
	return 0
}
