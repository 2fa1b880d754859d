package spec

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// MaxSize bounds a service file; a longer one is a fault and is not looked at.
const MaxSize = 64 << 10

// maxFaults bounds what is told of one file, and with it the time a hostile one takes.
const maxFaults = 50

// Parse decodes the service file named file, whose base name gives the service its name. The
// error is a Faults with everything that is wrong, not only the first thing; a syntax error hides
// the faults behind it, because the TOML reader stops there.
func Parse(file string, data []byte) (Spec, error) {
	p := parser{file: file, set: map[string]bool{}, lines: map[string]int{}}
	base := path.Base(file)
	p.spec.Name = strings.TrimSuffix(base, ".toml")
	if base == p.spec.Name || !ValidName(p.spec.Name) {
		p.fault("", "file name does not make a service name", "use NAME.toml with NAME like net-time_2: a-z, 0-9, - and _, at most 64")
	}
	if len(data) > MaxSize {
		p.fault("", "file is larger than 64 KiB", "a service file is a few lines")
		return Spec{}, p.faults
	}
	if err := p.decode(string(data)); err != nil {
		return Spec{}, append(p.faults, syntaxFault(file, err))
	}
	p.spec = p.spec.defaults(p.set)
	p.cross()
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b Fault) int { return a.Line - b.Line })
		return Spec{}, p.faults
	}
	return p.spec, nil
}

type parser struct {
	file   string
	spec   Spec
	set    map[string]bool // keys the file sets, right or wrong
	lines  map[string]int  // where
	faults Faults
}

func (p *parser) fault(key, text, hint string) {
	p.faults = append(p.faults, Fault{File: p.file, Line: p.lines[key], Key: key, Text: text, Hint: hint})
}

// decode walks the top-level keys in file order and hands each value to its setter.
func (p *parser) decode(text string) error {
	top := map[string]toml.Primitive{}
	md, err := toml.Decode(text, &top)
	if err != nil {
		return err
	}
	for _, full := range md.Keys() {
		name := full[0]
		if p.set[name] {
			continue
		}
		if len(p.faults) >= maxFaults {
			p.fault("", "has more faults than are told", "mend these first")
			break
		}
		p.set[name] = true
		v := value{spec: &p.spec, key: find(name)}
		err := md.PrimitiveDecode(top[name], &v)
		if p.lines[name] = lineOf(err); p.lines[name] == 0 {
			p.lines[name] = search(text, name) // a dotted key makes tables without a place
		}
		for _, f := range v.faults {
			p.fault(name, f.Text, f.Hint)
		}
		if v.key == nil {
			p.fault(name, "no such key", suggest(name))
		}
	}
	return nil
}

// errPosition is what value.UnmarshalTOML always returns: the TOML reader tells the line of a key
// only inside an error.
var errPosition = errors.New("position wanted")

// value receives one key's raw value and sets it in the spec.
type value struct {
	spec   *Spec
	key    *key
	faults []Fault
}

// UnmarshalTOML implements toml.Unmarshaler; it always fails, see errPosition.
func (v *value) UnmarshalTOML(raw any) error {
	if v.key != nil {
		v.faults = v.key.set(v.spec, raw)
	}
	return errPosition
}

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

func syntaxFault(file string, err error) Fault {
	var pe toml.ParseError
	if errors.As(err, &pe) {
		return Fault{File: file, Line: pe.Position.Line, Key: pe.LastKey, Text: pe.Message}
	}
	return Fault{File: file, Text: err.Error()}
}

// cross checks what only several keys together can say.
func (p *parser) cross() {
	s := p.spec
	if !p.set["command"] {
		p.fault("", "key \"command\" is missing", `add command = ["/usr/bin/program", "argument"]`)
	}
	if s.Type == Oneshot && s.Restart == Always {
		p.fault("restart", `"always" does not go with type "oneshot"`, `use restart = "on-failure" or "never"`)
	}
	if s.CgroupDelegate && s.KillMode == Group {
		p.fault("kill-mode", `"group" does not go with cgroup-delegate`, `use kill-mode = "process" or leave it out`)
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"needs", s.Needs}, {"wants", s.Wants}, {"after", s.After}} {
		if slices.Contains(list.names, s.Name) {
			p.fault(list.key, "the service names itself", "remove "+s.Name+" from the list")
		}
	}
}

// ValidName reports whether name can be a service's name, and so a file's, a cgroup's and a pipe's.
func ValidName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '-' || name[0] == '_' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
