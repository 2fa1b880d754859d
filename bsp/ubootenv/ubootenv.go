// Package ubootenv owns the default environment in a prebuilt U-Boot: the variables that U-Boot uses when it finds no
// saved ones.
//
// A distribution builds U-Boot for a person who sits in front of it: any byte on the serial line, also noise, leads to
// its prompt, and so does a failed boot. The variables that decide this are text in the binary, and this package
// changes nothing else. Read Change first.
package ubootenv

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mark is a variable that every default environment has, with the end of the string before it.
var mark = []byte("\x00bootdelay=")

// Change returns a copy of the binary in which variables of the default environment have other values; an empty value
// removes the variable. Nothing is moved: the text may become shorter, but not longer. It fails if there is not exactly
// one environment.
//
//	name=value NUL name=value NUL … NUL
func Change(binary []byte, values map[string]string) ([]byte, error) {
	start, end, err := find(binary)
	if err != nil {
		return nil, err
	}
	text, err := edit(strings.Split(string(binary[start:end]), "\x00"), values)
	if err != nil {
		return nil, err
	}
	if len(text) > end-start {
		return nil, fmt.Errorf("change U-Boot's environment: %d bytes, at most %d fit; remove a variable that the "+
			"board does not need", len(text), end-start)
	}
	out := bytes.Clone(binary)
	clear(out[start:end])
	copy(out[start:], text)
	return out, nil
}

// find returns where the first string of the environment begins and where its last one ends.
func find(binary []byte) (start, end int, err error) {
	if n := bytes.Count(binary, mark); n != 1 {
		return 0, 0, fmt.Errorf("find U-Boot's environment: %d variables bootdelay in the binary, want one", n)
	}
	start = bytes.Index(binary, mark) + 1
	for start > 0 {
		before := bytes.LastIndexByte(binary[:start-1], 0) + 1
		if !assignment(binary[before : start-1]) {
			break
		}
		start = before
	}
	for end = start; ; {
		line, _, found := bytes.Cut(binary[end:], []byte{0})
		switch {
		case !found:
			return 0, 0, errors.New("find U-Boot's environment: it has no end")
		case len(line) == 0:
			return start, end - 1, nil
		case !assignment(line):
			return 0, 0, fmt.Errorf("find U-Boot's environment: %.40q in it is not a variable", line)
		}
		end += len(line) + 1
	}
}

// assignment reports whether a string is name=value.
func assignment(s []byte) bool {
	name, _, found := bytes.Cut(s, []byte("="))
	return found && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// edit keeps the order of the variables; new ones come last.
func edit(env []string, values map[string]string) (string, error) {
	left := maps.Clone(values)
	var out []string
	for _, line := range env {
		name, _, _ := strings.Cut(line, "=")
		if value, changed := left[name]; changed {
			delete(left, name)
			line = name + "=" + value
			if value == "" {
				continue
			}
		}
		out = append(out, line)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if left[name] != "" {
			out = append(out, name+"="+left[name])
		}
	}
	for _, line := range out {
		if !assignment([]byte(line)) || strings.ContainsAny(line, "\x00\n") {
			return "", fmt.Errorf("change U-Boot's environment: %q is not a variable", line)
		}
	}
	return strings.Join(out, "\x00"), nil
}
