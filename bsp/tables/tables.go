// Package tables decodes the TOML tables of the bsp directory strictly: an unknown key is a fault, and all faults of a
// file are reported at once, each with file, line and key.
//
// It never opens a file and knows no table by name. Read Decode first.
package tables

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Fault is one fault of a file. Line is 0 if the fault belongs to no single line.
type Fault struct {
	File    string
	Line    int
	Message string
}

// Error returns the fault as file:line: message.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
}

// A Table is one decoded file. It remembers the lines of its keys, so that a later check can name the line.
type Table struct {
	file   string
	lines  []place
	faults []Fault
}

// Decode fills into, a pointer to a struct, from text. Even if there are faults, the struct contains what could be
// decoded. Add your own faults, then call Err.
func Decode(file string, text []byte, into any) *Table {
	t := &Table{file: file, lines: places(string(text))}
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(text), &top)
	if err != nil {
		t.decodeFault("", err)
		return t
	}
	t.fill(&md, top, reflect.ValueOf(into).Elem(), "")
	for _, key := range md.Undecoded() {
		if !t.reported(key.String()) {
			t.Fault(key.String(), "unknown key %s", key)
		}
	}
	return t
}

// Fault adds a fault at the line of key (dotted, as in "disk.table").
func (t *Table) Fault(key, format string, args ...any) {
	t.faults = append(t.faults, Fault{File: t.file, Line: t.Line(key), Message: fmt.Sprintf(format, args...)})
}

// Line returns the line of key; if the file does not contain the key, the line of its nearest parent, or 0.
func (t *Table) Line(key string) int {
	for key != "" {
		for _, p := range t.lines {
			if p.key == key {
				return p.line
			}
		}
		key = parent(key)
	}
	return 0
}

// Err joins all faults in the order of their lines; it is nil if there are none.
func (t *Table) Err() error {
	slices.SortStableFunc(t.faults, func(a, b Fault) int { return a.Line - b.Line })
	errs := make([]error, len(t.faults))
	for i, f := range t.faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}

// fill decodes each key separately, because the decoder stops at the first wrong type.
func (t *Table) fill(md *toml.MetaData, values map[string]toml.Primitive, into reflect.Value, prefix string) {
	for name, value := range values {
		key := prefix + name
		field, known := fieldOf(into, name)
		if !known {
			t.Fault(key, "unknown key %s", key)
			continue
		}
		if field.Kind() != reflect.Struct {
			if err := md.PrimitiveDecode(value, field.Addr().Interface()); err != nil {
				t.decodeFault(key, err)
			}
			continue
		}
		var inner map[string]toml.Primitive
		if err := md.PrimitiveDecode(value, &inner); err != nil {
			t.decodeFault(key, err)
			continue
		}
		t.fill(md, inner, field, key+".")
	}
}

func (t *Table) decodeFault(key string, err error) {
	var pe toml.ParseError
	f := Fault{File: t.file, Line: t.Line(key), Message: err.Error()}
	if errors.As(err, &pe) {
		f.Line, f.Message = pe.Position.Line, pe.Message
		if key == "" {
			key = pe.LastKey
		}
	}
	f.Message = strings.TrimPrefix(f.Message, "toml: ")
	if strings.HasPrefix(f.Message, "line ") { // the decoder's own "line 3 (last key "x"): "
		_, f.Message, _ = strings.Cut(f.Message, "): ")
	}
	if key != "" && !strings.Contains(f.Message, key) {
		f.Message = "key " + key + ": " + f.Message
	}
	t.faults = append(t.faults, f)
}

// reported reports whether a fault of key, or of what contains it, is known already: the rest of a broken value is not
// worth a message.
func (t *Table) reported(key string) bool {
	for ; key != ""; key = parent(key) {
		for _, f := range t.faults {
			if f.Line == t.Line(key) && strings.Contains(f.Message, key) {
				return true
			}
		}
	}
	return false
}

func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("toml") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func parent(key string) string {
	i := strings.LastIndexByte(key, '.')
	return key[:max(i, 0)]
}
