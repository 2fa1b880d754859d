// Package udevrules owns the rules for devices that an owner writes into os.udevRules of config.json: a documented
// subset of the language of udev (udev(7)). It gives device nodes a mode, an owner and further names, and writes
// attributes of devices.
//
// It never runs a program, renames a link, keeps a database or believes what user space sends. Parse and Decide are
// pure; Keeper carries out what they say. Read Parse first.
package udevrules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Rule is one line of a file of rules: if all matches hold for a device, the assignments are made.
type Rule struct {
	file    string
	line    int
	matches []match
	assigns []assign
	label   string // LABEL: where a GOTO further up goes on
	jump    string // GOTO
}

// match is one KEY=="PATTERN" or KEY!="PATTERN".
type match struct {
	key, of string // ATTR{of}
	not     bool
	parents bool
	any     []string // the alternatives, which the pattern has between |
}

// assign is one KEY="VALUE"; the value may have substitutions.
type assign struct {
	key, of string
	value   string
	adds    bool // +=
}

// keyKind is what a key may do.
type keyKind struct {
	name             string
	matches, assigns bool
	braces           bool
	parents          bool   // looks at the device and its parents; all such keys of a rule at the same one
	refused          string // why a rule here cannot have it
}

const noProgram = "no rule starts a program; match ATTR or ENV"

// keys are those of the subset, and those of udev that are refused for a reason. A table and no map, which each start
// of the init binary would have to make.
var keys = [...]keyKind{
	{name: "ACTION", matches: true}, {name: "DEVPATH", matches: true}, {name: "KERNEL", matches: true},
	{name: "SUBSYSTEM", matches: true}, {name: "DRIVER", matches: true},
	{name: "ATTR", matches: true, assigns: true, braces: true},
	{name: "ENV", matches: true, assigns: true, braces: true},
	{name: "KERNELS", matches: true, parents: true}, {name: "SUBSYSTEMS", matches: true, parents: true},
	{name: "DRIVERS", matches: true, parents: true}, {name: "ATTRS", matches: true, braces: true, parents: true},
	{name: "MODE", assigns: true}, {name: "OWNER", assigns: true}, {name: "GROUP", assigns: true},
	{name: "SYMLINK", assigns: true}, {name: "LABEL", assigns: true}, {name: "GOTO", assigns: true},

	{name: "RUN", refused: "no rule starts a program; an app can listen to the kernel's events itself"},
	{name: "PROGRAM", refused: noProgram}, {name: "RESULT", refused: noProgram},
	{name: "IMPORT", refused: "there is no database of devices; match ATTR or ENV"},
	{name: "NAME", refused: "links keep the names of the kernel; a key file chooses one by its hardware address"},
	{name: "TAG", refused: "nothing here reads tags"}, {name: "OPTIONS", refused: "no option has an effect here"},
	{name: "TEST", refused: `compare ATTR{file} with "*"`},
}

// keyOf returns what a key may do; without a name it is no key.
func keyOf(name string) keyKind {
	for _, k := range keys {
		if k.name == name {
			return k
		}
	}
	return keyKind{}
}

// The limits of what an owner may write; config.json itself is limited too.
const (
	mostRules = 1000
	mostText  = 256 << 10
)

// Names finds the numbers of users and groups.
type Names struct{ Users, Groups map[string]int }

// Parse reads files of rules by their names, in the order of these. A file with a fault has no effect as a whole; the
// error then names all faults, each with file, line and remedy, and the rules of the other files are returned.
func Parse(files map[string]string, names Names) ([]Rule, error) {
	var all []Rule
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		rules, err := parseFile(name, files[name], names)
		if err == nil && len(all)+len(rules) > mostRules {
			err = fmt.Errorf("%s: more than %d rules", name, mostRules)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, rules...)
	}
	return all, errors.Join(faults...)
}

func parseFile(name, text string, names Names) ([]Rule, error) {
	if len(text) > mostText {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, mostText)
	}
	var rules []Rule
	var faults []error
	lines := strings.Split(text, "\n")
	for at := 0; at < len(lines); at++ {
		first, line := at+1, strings.TrimSpace(lines[at])
		for strings.HasSuffix(line, `\`) && at+1 < len(lines) {
			at++
			line = strings.TrimSpace(strings.TrimSuffix(line, `\`)) + " " + strings.TrimSpace(lines[at])
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, err := parseLine(line, names)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", name, first, err))
			continue
		}
		rule.file, rule.line = name, first
		rules = append(rules, rule)
	}
	for i, r := range rules {
		if r.jump != "" && !slices.ContainsFunc(rules[i+1:], func(to Rule) bool { return to.label == r.jump }) {
			faults = append(faults, fmt.Errorf("%s:%d: no LABEL=%q below this GOTO", name, r.line, r.jump))
		}
	}
	return rules, errors.Join(faults...)
}

// parseLine reads the parts of one rule, which commas or blanks separate.
func parseLine(line string, names Names) (Rule, error) {
	var r Rule
	for rest := line; ; {
		rest = strings.TrimLeft(rest, ", \t\r")
		if rest == "" {
			break
		}
		part, after, err := cut(rest)
		if err == nil {
			err = r.add(part, names)
		}
		if err != nil {
			return Rule{}, err
		}
		rest = after
	}
	if len(r.assigns) == 0 && r.jump == "" && r.label == "" {
		return Rule{}, errors.New("the rule assigns nothing: == compares, = assigns")
	}
	return r, nil
}

// part is one KEY{OF} OPERATOR "VALUE".
type part struct{ key, of, operator, value string }

// operators, the longest first.
var operators = []string{"==", "!=", "+=", ":=", "-=", "="}

func cut(text string) (part, string, error) {
	var p part
	n := strings.IndexFunc(text, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' })
	if n < 1 {
		return p, "", fmt.Errorf("want KEY==\"value\" or KEY=\"value\" at %q", short(text))
	}
	p.key, text = text[:n], text[n:]
	if strings.HasPrefix(text, "{") {
		end := strings.IndexByte(text, '}')
		if end < 0 {
			return p, "", fmt.Errorf("%s{ has no }", p.key)
		}
		p.of, text = text[1:end], text[end+1:]
	}
	text = strings.TrimLeft(text, " \t")
	for _, o := range operators {
		if strings.HasPrefix(text, o) {
			p.operator, text = o, strings.TrimLeft(text[len(o):], " \t")
			break
		}
	}
	if p.operator == "" || !strings.HasPrefix(text, `"`) {
		return p, "", fmt.Errorf("%s: want an operator (== != = +=) and a value in double quotes", p.key)
	}
	var value strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			p.value = value.String()
			return p, text[i+1:], nil
		case c == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
			value.WriteByte('"')
		default:
			value.WriteByte(c)
		}
	}
	return p, "", fmt.Errorf("%s: the value has no closing double quote", p.key)
}

// add adds one part to a rule.
func (r *Rule) add(p part, names Names) error {
	kind := keyOf(p.key)
	switch {
	case kind.refused != "":
		return fmt.Errorf("%s is not supported: %s", p.key, kind.refused)
	case kind.name == "":
		return fmt.Errorf("%s is no key of rules", p.key)
	case kind.braces != (p.of != ""):
		return fmt.Errorf("%s: want %s", p.key, bracesOf(kind))
	case strings.ContainsAny(p.value, "\x00\n"):
		return fmt.Errorf("%s: the value has a byte that no device has", p.key)
	}
	if p.operator == "==" || p.operator == "!=" {
		if !kind.matches {
			return fmt.Errorf("%s can be assigned only: write %s=%q", p.key, p.key, p.value)
		}
		if err := goodPattern(p.value); err != nil {
			return fmt.Errorf("%s: %w", p.key, err)
		}
		r.matches = append(r.matches, match{p.key, p.of, p.operator == "!=", kind.parents, strings.Split(p.value, "|")})
		return nil
	}
	switch {
	case !kind.assigns:
		return fmt.Errorf("%s can be compared only: write %s==%q", p.key, p.key, p.value)
	case p.operator == "-=" || p.operator == "+=" && p.key != "SYMLINK":
		return fmt.Errorf("%s: %s has no meaning for it; write =", p.key, p.operator)
	case p.key == "LABEL":
		r.label = p.value
	case p.key == "GOTO":
		r.jump = p.value
	default:
		value, err := goodValue(p, names)
		if err != nil {
			return err
		}
		r.assigns = append(r.assigns, assign{p.key, p.of, value, p.operator == "+="})
	}
	return nil
}

func bracesOf(k keyKind) string {
	if k.braces {
		return k.name + "{name}"
	}
	return "no braces"
}

func short(text string) string {
	if len(text) > 20 {
		return text[:20] + "..."
	}
	return text
}
