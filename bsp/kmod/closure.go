package kmod

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Closure returns the modules with the names in wanted and everything they need, in an order in which they can be
// loaded: hard dependencies, and soft dependencies that are in modules. Built-in modules are assumed to be there. The
// error lists every missing module.
func Closure(modules []Module, wanted []string) ([]Module, error) {
	c := newClosure(modules, wanted)
	for _, name := range wanted {
		c.add(Name(name), "")
	}
	return c.order, errors.Join(c.faults...)
}

type closure struct {
	modules map[string]*Module
	exact   map[string][]string // aliases without wildcards -> names, for soft dependencies
	wanted  map[string]bool
	state   map[string]visit
	order   []Module
	faults  []error
	noPost  bool // leave out what is to be loaded afterwards
}

// restart removes everything that was added.
func (c *closure) restart() {
	c.state, c.order, c.faults = map[string]visit{}, nil, nil
}

type visit uint8

const (
	unseen visit = iota
	open
	done
)

func newClosure(modules []Module, wanted []string) *closure {
	c := &closure{
		modules: make(map[string]*Module, len(modules)),
		exact:   map[string][]string{},
		wanted:  make(map[string]bool, len(wanted)),
		state:   map[string]visit{},
	}
	for _, name := range wanted {
		c.wanted[Name(name)] = true
	}
	for i := range modules {
		m := &modules[i]
		c.modules[m.Name] = m
		for _, a := range m.Aliases {
			if !strings.ContainsAny(a, "*?[") {
				c.exact[a] = append(c.exact[a], m.Name)
			}
		}
	}
	return c
}

// add adds the module name after everything it needs. neededBy is for the message.
func (c *closure) add(name, neededBy string) {
	if c.state[name] != unseen {
		return // also ends a cycle of soft dependencies
	}
	m, found := c.modules[name]
	if !found {
		c.state[name] = done
		fault := fmt.Errorf("module %s: the kernel has none", name)
		if neededBy != "" {
			fault = fmt.Errorf("module %s, which %s needs: the kernel has none", name, neededBy)
		}
		c.faults = append(c.faults, fault)
		return
	}
	c.state[name] = open
	for _, soft := range m.Pre {
		if provider := c.provider(soft); provider != "" {
			c.add(provider, name)
		}
	}
	for _, hard := range m.Depends {
		if c.state[hard] == open {
			c.faults = append(c.faults, fmt.Errorf("module %s and %s need each other", name, hard))
			continue
		}
		c.add(hard, name)
	}
	c.state[name] = done
	if !m.Builtin {
		c.order = append(c.order, *m)
	}
	if c.noPost {
		return
	}
	for _, soft := range m.Post {
		if provider := c.provider(soft); provider != "" {
			c.add(provider, name)
		}
	}
}

// provider selects the module for a soft dependency: the module of that name; else, of those with that alias, one that
// is wanted or added already; else the generic one; else the first by name; "" if there is none.
func (c *closure) provider(soft string) string {
	if _, found := c.modules[Name(soft)]; found {
		return Name(soft)
	}
	candidates := slices.Clone(c.exact[soft])
	slices.Sort(candidates)
	for _, prefer := range []func(string) bool{
		func(n string) bool { return c.modules[n].Builtin },
		func(n string) bool { return c.wanted[n] || c.state[n] != unseen },
		func(n string) bool { return strings.HasSuffix(n, "_generic") },
		func(string) bool { return true },
	} {
		if i := slices.IndexFunc(candidates, prefer); i >= 0 {
			return candidates[i]
		}
	}
	return ""
}
