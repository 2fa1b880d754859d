// Package definition reads and writes service files: it decodes one, puts the files of one service on top of each
// other, sets the defaults, checks keys that depend on each other, and writes a definition as a file again. It reports
// every fault at once, with its place and remedy. Read Parse first, then Load.
package definition

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// MaxSize bounds a service file; a longer one is a fault and is not looked at.
const MaxSize = 64 << 10

// maxFaults bounds what is told of one file, and with it the time a hostile one takes.
const maxFaults = 50

// Parse decodes the service file named file, whose base name gives the service its name. The
// error is a Faults with everything that is wrong, not only the first thing; a syntax error hides
// the faults behind it, because the TOML reader stops there.
func Parse(file string, data []byte) (spec.Spec, error) {
	s, _, faults := parser{}.with(file, data)
	if len(faults) > 0 {
		return spec.Spec{}, faults
	}
	return s, nil
}

// parser is a service file, or several on top of each other, on its way to a Spec. It is copied
// to try a further layer and thrown away when that one has faults.
type parser struct {
	spec   spec.Spec
	said   [len(keys.All)]*source // who said a key last, right or wrong
	last   *source
	faults keys.Faults
}

// with puts one more file on top and returns what is then said, the parser that said it and every
// fault; p itself stays as it was.
func (p parser) with(file string, data []byte) (spec.Spec, parser, keys.Faults) {
	p.last = &source{file: file}
	base := path.Base(file)
	p.spec.Name = strings.TrimSuffix(base, ".toml")
	if base == p.spec.Name || !keys.ValidName(p.spec.Name) {
		p.fault("", "file name does not make a service name",
			"use NAME.toml with NAME like net-time_2: a-z, 0-9, - and _, at most 64")
	}
	src, f := read(file, data)
	if f != nil {
		return spec.Spec{}, p, append(p.faults, *f)
	}
	p.last = src
	p.spec.Files = append(slices.Clip(p.spec.Files), file)
	p.apply(src)
	s := p.spec
	settle(&s, p.has)
	p.cross(s)
	slices.SortStableFunc(p.faults, func(a, b keys.Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return s, p, p.faults
}

// apply hands each value of a file to its setter, in file order.
func (p *parser) apply(src *source) {
	var unknown []string
	for _, full := range src.md.Keys() {
		name := full[0]
		i := keys.Find(name)
		switch {
		case len(p.faults) > maxFaults:
			return
		case i < 0 && !slices.Contains(unknown, name):
			unknown = append(unknown, name)
			p.add(name, keys.Fault{Line: src.line(name, ""), Text: "no such key", Hint: keys.Suggest(name)})
		case i >= 0 && p.said[i] != src:
			p.said[i] = src
			for _, f := range keys.All[i].Set(&p.spec, src.value(name)) {
				p.add(name, f)
			}
		}
	}
}

// add files a setter's fault, which may name a key inside the table name.
func (p *parser) add(name string, f keys.Fault) {
	switch {
	case len(p.faults) > maxFaults:
		return
	case len(p.faults) == maxFaults:
		p.faults = append(p.faults, keys.Fault{File: p.last.file, Text: "has more faults than are listed",
			Hint: "mend these first"})
		return
	}
	sub := f.Key
	src := p.last
	if i := keys.Find(name); i >= 0 && p.said[i] != nil {
		src = p.said[i]
	}
	if f.File, f.Key = src.file, name; sub != "" {
		f.Key += "." + sub
	}
	if f.Line == 0 && name != "" && src.top != nil {
		f.Line = src.line(name, sub)
	}
	p.faults = append(p.faults, f)
}

func (p *parser) fault(key, text, hint string) { p.add(key, keys.Fault{Text: text, Hint: hint}) }

// has reports whether any of the files said a key.
func (p *parser) has(name string) bool {
	i := keys.Find(name)
	if i < 0 {
		panic(fmt.Sprintf("no key %q", name)) // this source is wrong
	}
	return p.said[i] != nil
}
