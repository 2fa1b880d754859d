package definition

import (
	"fmt"
	"path"
	"reflect"
	"slices"

	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// Check judges one file as it would be used, for an owner who is about to use it. A file that
// lies in one of the layers takes its own place there; any other is taken for a new one of the last
// layer, so that what the layers below say of its service is below it. The error is a Faults.
//
// Warnings tell what is not wrong in the file but will surprise: names that no service has, keys
// that say what holds anyway. Whether programs and users exist is not looked at.
func Check(name string, data []byte, layers ...Layer) (s spec.Spec, warnings keys.Faults, err error) {
	at := max(0, len(layers)-1)
	for i, l := range layers {
		if path.Dir(name) == path.Clean(file{l, ""}.path()) {
			at = i
		}
	}
	var under []file
	for _, l := range layers[:min(at, len(layers))] {
		f := file{l, path.Base(name)}
		if _, err := f.read(); err == nil {
			under = append(under, f)
		}
	}
	below, p, _, _ := stack(under)
	s, over, faults := p.with(name, data)
	if len(faults) > 0 {
		return spec.Spec{}, nil, faults
	}
	others, _ := collect(layers)
	over.faults = nil
	over.warn(s, below, others)
	return s, over.faults, nil
}

// warn files its warnings where faults go.
func (p *parser) warn(s, below spec.Spec, others []file) {
	for _, list := range []struct {
		key   string
		names []string
		then  string
	}{
		{"needs", s.Needs, "it will never start"},
		{"wants", s.Wants, "the wish is ignored"},
		{"after", s.After, "the order is ignored"},
		{"conflicts", s.Conflicts, "nothing is stopped"},
	} {
		for _, name := range list.names {
			if !slices.ContainsFunc(others, func(f file) bool { return f.name == name+".toml" }) {
				p.fault(list.key, "there is no service "+name+" now", list.then)
			}
		}
	}
	if s.Restart == spec.Never && s.GiveUp.Lives > 0 {
		p.fault("give-up-after", `has no effect with restart "never"`, "remove one of them")
	}
	if s.Health.Timeout > s.Health.Every {
		p.fault("health-timeout", fmt.Sprintf("is longer than health-every %s", keys.Short(s.Health.Every)),
			"a run that hangs holds up the next ones")
	}
	for _, sock := range s.Listen.Sockets {
		if sock.Name = ""; s.Ready.Port == sock.String() {
			p.fault("ready-port", "is one of its listen sockets, which always take connections",
				"use ready-command")
		}
	}
	if below.Name != "" {
		p.warnSame(s, below)
	}
}

// warnSame tells a file that changes nothing.
func (p *parser) warnSame(s, below spec.Spec) {
	s.Files, below.Files = nil, nil
	if reflect.DeepEqual(s, below) {
		p.fault("", "changes nothing", "remove it, or change what it says")
	}
}
