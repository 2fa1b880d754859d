// Package bootvars owns the boot variables, which the bootloader and the device exchange in one file of a fixed size on
// the boot partition.
//
// It knows the variables (Table), the two bootloaders and the format of each one's file. It never writes a disk: code
// that changes a variable on a running device overwrites the file in place, which is a write of one sector. Read
// Variables first.
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
	Slot slot.Name // the slot to boot

	// The slot on trial, how often it may still be booted, and what was found wrong with it. While Try is a
	// slot, the boot script counts Tries down before each boot of it, and boots Slot once they are used up.
	Try   slot.Name // NoTrial, A or B
	Tries string    // "0" to MostTries
	Fault Fault

	// Others are variables that Table lacks. They are kept: after a roll back, the older system must not drop those of
	// the newer one.
	Others map[string]string
}

// The values of Try and Tries that programs name.
const (
	NoTrial   slot.Name = "none"
	NoTries   string    = "0"
	MostTries string    = "3"
)

// Fault is what was found wrong with the slot on trial, or with the slot that was left because its root is bad.
type Fault string

// The faults.
const (
	NoFault     Fault = "none"
	KernelFault Fault = "kernel" // its kernel or its initramfs is missing, or could not be loaded
	RootFault   Fault = "root"   // stage 1 could not attach its root
)

// A Variable is a row of Table.
type Variable struct {
	Name string
	Does string
	// the values that it may have. If the variable is missing or has another value, the bootloader uses the first.
	Values []string
	Later  bool // files of the first images lack it, which is no fault; an empty field is its first value

	field func(*Variables) *string
}

// Table lists the variables that the boot scripts read from the file. No other variable reaches a script.
func Table() []Variable {
	return []Variable{
		{
			Name: "slot", Does: "the slot to boot", Values: []string{string(slot.A), string(slot.B)},
			field: func(v *Variables) *string { return (*string)(&v.Slot) },
		},
		{
			Name: "try", Does: "the slot on trial", Later: true, Values: []string{string(NoTrial), string(slot.A),
				string(slot.B)},
			field: func(v *Variables) *string { return (*string)(&v.Try) },
		},
		{
			Name: "tries", Does: "boots of it that are left", Later: true, Values: []string{NoTries, "1", "2",
				MostTries},
			field: func(v *Variables) *string { return &v.Tries },
		},
		{
			Name: "fault", Does: "what was found wrong with it", Later: true,
			Values: []string{string(NoFault), string(KernelFault), string(RootFault)},
			field:  func(v *Variables) *string { return (*string)(&v.Fault) },
		},
	}
}

// New returns the variables of a new device: the first value of each.
func New() Variables {
	var v Variables
	for _, row := range Table() {
		*row.field(&v) = row.Values[0]
	}
	return v
}

// LeaveRoot returns the variables with which a device leaves a slot whose root is bad, and boots the other one from
// then on. That slot's system finds out what happened: it is as if the bad one had been on trial in vain.
func (v Variables) LeaveRoot(bad slot.Name) Variables {
	v.Slot, v.Try, v.Tries, v.Fault = bad.Other(), bad, NoTries, RootFault
	return v
}

// Encode returns the file for a bootloader. It fails if a variable has a value that it must not have, or if the
// variables do not fit.
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
		if value == "" && row.Later {
			value = row.Values[0]
		}
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

// Parse reads the file of a bootloader. The variables are those that the bootloader would use. The error names the
// faults of the file: a wrong size, no head, a missing variable, a value that it must not have.
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
		return v, fmt.Errorf("parse boot variables %s: %w", f.file,
			errors.Join(append(faults, fmt.Errorf("does not begin with %q", f.head))...))
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
		case !row.Later:
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

// lines returns the assignments of a text that ends at its first NUL. If a name is assigned twice, the later value
// counts. Other lines are skipped, as both bootloaders do.
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
