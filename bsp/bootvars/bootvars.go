// Package bootvars owns the boot variables: what the bootloader and the device tell each other through one file of a fixed
// size on the boot partition.
//
// It knows the variables there are (Table), the two bootloaders and the form of each one's file. It never writes a disk: who
// changes a variable on a running device overwrites the file in place, which is one sector. Read Variables first.
package bootvars

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"resinos/bsp/slot"
)

// Variables are the values of a file.
type Variables struct {
	Slot slot.Name // that is booted

	// Others are variables that Table lacks. They are kept: after a roll back, the older system must not drop those of the newer.
	Others map[string]string
}

// A Variable is a row of Table.
type Variable struct {
	Name   string
	Does   string
	Values []string // that it may have. The bootloader takes the first where the variable is missing or has another.

	field func(*Variables) *string
}

// Table lists the variables that the boot scripts take from the file. A variable that is not in it never reaches a script.
func Table() []Variable {
	return []Variable{
		{
			Name: "slot", Does: "the slot to boot", Values: []string{string(slot.A), string(slot.B)},
			field: func(v *Variables) *string { return (*string)(&v.Slot) },
		},
	}
}

// New is what a device begins with: of each variable the first of its values.
func New() Variables {
	var v Variables
	for _, row := range Table() {
		*row.field(&v) = row.Values[0]
	}
	return v
}

// Encode writes the file of a bootloader. It fails if a variable has a value that it may not have, or if they do not fit.
func (b Bootloader) Encode(v Variables) ([]byte, error) {
	f, err := b.form()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(v.Others)
	if all == nil {
		all = make(map[string]string)
	}
	var faults []error
	for _, row := range Table() {
		value := *row.field(&v)
		if !slices.Contains(row.Values, value) {
			faults = append(faults, row.wrong(value))
		}
		all[row.Name] = value
	}
	var text strings.Builder
	text.WriteString(f.head)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if name == "" || strings.ContainsAny(name, "=#\n\\\x00 ") || strings.ContainsAny(value, "\r\n\\\x00") {
			faults = append(faults, fmt.Errorf("%q = %q: a character that the file cannot hold", name, value))
		}
		fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	if text.Len() > f.most {
		faults = append(faults, fmt.Errorf("%d bytes, at most %d fit into one sector", text.Len(), f.most))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("write boot variables %s: %w", f.file, err)
	}
	return append([]byte(text.String()), bytes.Repeat([]byte{f.padding}, f.size-text.Len())...), nil
}

// Parse reads the file of a bootloader. The variables are what the bootloader makes of it; the error names what a device
// should not have: another size, no head, a missing variable, a value that it may not have.
func (b Bootloader) Parse(file []byte) (Variables, error) {
	f, err := b.form()
	if err != nil {
		return Variables{}, err
	}
	v := New()
	var faults []error
	if len(file) != f.size {
		faults = append(faults, fmt.Errorf("%d bytes, want %d", len(file), f.size))
	}
	text, whole := strings.CutPrefix(string(file), f.head)
	if !whole {
		return v, fmt.Errorf("parse boot variables %s: %w", f.file, errors.Join(append(faults, fmt.Errorf("does not begin with %q", f.head))...))
	}
	all := lines(text)
	for _, row := range Table() {
		value, there := all[row.Name]
		delete(all, row.Name)
		switch {
		case slices.Contains(row.Values, value):
			*row.field(&v) = value
		case there:
			faults = append(faults, row.wrong(value))
		default:
			faults = append(faults, fmt.Errorf("%s is missing", row.Name))
		}
	}
	if len(all) > 0 {
		v.Others = all
	}
	if err := errors.Join(faults...); err != nil {
		return v, fmt.Errorf("parse boot variables %s: %w", f.file, err)
	}
	return v, nil
}

func (v Variable) wrong(value string) error {
	return fmt.Errorf("%s = %q, want one of %s", v.Name, value, strings.Join(v.Values, ", "))
}

// lines are the assignments of a text that ends at its first NUL. Of two to one name the later counts. Lines that are no
// assignment are left out, as both bootloaders do.
func lines(text string) map[string]string {
	text, _, _ = strings.Cut(text, "\x00")
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if ok && name != "" && !strings.HasPrefix(name, "#") {
			all[name] = value
		}
	}
	return all
}
