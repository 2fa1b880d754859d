package udevrules

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// goodPattern checks the alternatives of a match.
func goodPattern(text string) error {
	for one := range strings.SplitSeq(text, "|") {
		if _, err := path.Match(glob(one), ""); err != nil {
			return fmt.Errorf("%q is no pattern", one)
		}
	}
	return nil
}

// slash stands for / in what is compared: udev's * matches it, and path.Match's does not.
const slash = "\x01"

// glob makes a pattern of udev one of path.Match: a set is negated by !, and \ stands for itself.
func glob(pattern string) string {
	pattern = strings.ReplaceAll(pattern, `\`, `\\`)
	return strings.ReplaceAll(strings.ReplaceAll(pattern, "[!", "[^"), "/", slash)
}

func (m match) holds(value string) bool {
	for _, one := range m.any {
		if ok, err := path.Match(glob(one), strings.ReplaceAll(value, "/", slash)); err == nil && ok {
			return !m.not
		}
	}
	return m.not
}

// goodValue checks the value of an assignment as far as it is known before there is a device; names of users and groups
// become numbers.
func goodValue(p part, names Names) (string, error) {
	if err := goodSubstitutions(p.value); err != nil {
		return "", fmt.Errorf("%s: %w", p.key, err)
	}
	switch p.key {
	case "MODE":
		if !strings.ContainsAny(p.value, "$%") {
			_, err := mode(p.value)
			return p.value, err
		}
	case "OWNER":
		return number(p, names.Users, "user")
	case "GROUP":
		return number(p, names.Groups, "group")
	case "ATTR":
		if !filepath.IsLocal(p.of) {
			return "", fmt.Errorf("ATTR{%s}: want a file below the device's directory", p.of)
		}
	}
	return p.value, nil
}

// mode reads a mode in octal: permissions only.
func mode(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 8, 16)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("MODE %q: want octal digits, at most 0777", text)
	}
	return uint32(n), nil
}

func number(p part, known map[string]int, what string) (string, error) {
	if n, err := strconv.ParseUint(p.value, 10, 31); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	if n, found := known[p.value]; found {
		return strconv.Itoa(n), nil
	}
	return "", fmt.Errorf("%s: this device has no %s %q; write its number in the container that uses the device",
		p.key, what, p.value)
}

// substitutions are the words behind $, and the letters behind %, with what they stand for.
var substitutions = []struct {
	word, letter string
	braces       bool
	of           func(d *view, name string) string
}{
	{"kernel", "k", false, func(d *view, _ string) string { return d.kernel() }},
	{"number", "n", false, func(d *view, _ string) string { return trailing(d.kernel()) }},
	{"devpath", "p", false, func(d *view, _ string) string { return d.device.Path }},
	{"major", "M", false, func(d *view, _ string) string { return d.env["MAJOR"] }},
	{"minor", "m", false, func(d *view, _ string) string { return d.env["MINOR"] }},
	{"attr", "s", true, func(d *view, name string) string { return d.attrHereOrAbove(name) }},
	{"env", "E", true, func(d *view, name string) string { return d.env[name] }},
	{"id", "b", false, func(d *view, _ string) string { return path.Base(d.matched) }},
}

// expand replaces the substitutions of a value, which has been checked. What stands for one passes through safe.
func expand(value string, d *view, safe func(string) string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(value); {
		c := value[i]
		if c != '$' && c != '%' {
			out.WriteByte(c)
			i++
			continue
		}
		if i+1 < len(value) && value[i+1] == c {
			out.WriteByte(c)
			i += 2
			continue
		}
		n, text, err := substitution(value[i:], d)
		if err != nil {
			return "", err
		}
		out.WriteString(safe(text))
		i += n
	}
	return out.String(), nil
}

func asIs(text string) string { return text }

// oneName makes what a device says of itself part of one name: it can neither begin another name nor a directory.
func oneName(text string) string {
	return strings.ReplaceAll(clean("_"+strings.ReplaceAll(text, "/", "_")), "/", "_")[1:]
}

func goodSubstitutions(value string) error {
	_, err := expand(value, &view{}, asIs)
	return err
}

// substitution reads the one that text begins with: how long it is, and what it stands for on a device.
func substitution(text string, d *view) (length int, value string, err error) {
	for _, s := range substitutions {
		word := "$" + s.word
		if text[0] == '%' {
			word = "%" + s.letter
		}
		if !strings.HasPrefix(text, word) {
			continue
		}
		if !s.braces {
			return len(word), s.of(d, ""), nil
		}
		name, _, found := strings.Cut(text[len(word):], "}")
		if !found || !strings.HasPrefix(name, "{") || len(name) < 2 {
			return 0, "", fmt.Errorf("%s: want %s{name}", word, word)
		}
		return len(word) + len(name) + 1, s.of(d, name[1:]), nil
	}
	return 0, "", errors.New(short(text) + ` is no substitution here; there are $kernel $number $devpath ` +
		`$major $minor $attr{} $env{} $id, and %k %n %p %M %m %s{} %E{} %b`)
}

// trailing returns the digits at the end of a name.
func trailing(name string) string {
	return name[len(strings.TrimRight(name, "0123456789")):]
}
