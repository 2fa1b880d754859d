package kmod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The index files, in the formats of depmod(8), each sorted so that Index can search it without parsing:
//
//	modules.dep      PATH: PATH...         by name of the module; loads from right to left, soft dependencies included
//	modules.alias    alias PATTERN NAME    by pattern
//	modules.softdep  softdep NAME post: NAME...   by name; only what is to be loaded afterwards
//	modules.builtin  PATH                  by name
//	modules.devname  NAME NODE cMAJOR:MINOR (or b)   by name
const (
	depFile     = "modules.dep"
	aliasFile   = "modules.alias"
	softdepFile = "modules.softdep"
	builtinFile = "modules.builtin"
	devnameFile = "modules.devname"
)

// WriteIndex writes the index files of modules into dir. modules must contain the dependencies of all its modules;
// built-in modules are listed as such.
func WriteIndex(dir string, modules []Module) error {
	files, err := IndexFiles(modules)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return fmt.Errorf("write module index: %w", err)
		}
	}
	return nil
}

// IndexFiles returns the content of the index files by file name.
func IndexFiles(modules []Module) (map[string][]byte, error) {
	sorted := slices.Clone(modules)
	slices.SortFunc(sorted, func(a, b Module) int { return strings.Compare(a.Name, b.Name) })
	var dep, alias, soft, builtin, devname []string
	var faults []error
	c := newClosure(sorted, nil)
	c.noPost = true
	for _, m := range sorted {
		if m.Builtin {
			builtin = append(builtin, m.Path)
			continue
		}
		line, err := depLine(c, m)
		faults = append(faults, err)
		dep = append(dep, line)
		for _, a := range m.Aliases {
			alias = append(alias, "alias "+a+" "+m.Name)
		}
		for _, n := range m.Nodes {
			devname = append(devname, devnameLine(m.Name, n))
		}
		if post := postLine(c, m); post != "" {
			soft = append(soft, post)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("write module index: %w", err)
	}
	slices.Sort(alias)
	return map[string][]byte{
		depFile: lines(dep), aliasFile: lines(slices.Compact(alias)), softdepFile: lines(soft),
		builtinFile: lines(builtin),
		devnameFile: lines(devname),
	}, nil
}

func devnameLine(module string, n Node) string {
	kind := "c"
	if n.Block {
		kind = "b"
	}
	return fmt.Sprintf("%s %s %s%d:%d", module, n.Name, kind, n.Major, n.Minor)
}

func lines(all []string) []byte {
	if len(all) == 0 {
		return []byte{}
	}
	return []byte(strings.Join(all, "\n") + "\n")
}

// depLine leaves out the soft dependencies that are loaded afterwards: those are in modules.softdep.
func depLine(c *closure, m Module) (string, error) {
	c.restart()
	c.add(m.Name, "")
	var b strings.Builder
	b.WriteString(m.Path + ":")
	for _, need := range slices.Backward(c.order) {
		if need.Name != m.Name {
			b.WriteString(" " + need.Path)
		}
	}
	return b.String(), errors.Join(c.faults...)
}

func postLine(c *closure, m Module) string {
	line, found := "softdep "+m.Name+" post:", false
	for _, p := range m.Post {
		if provider := c.provider(p); provider != "" && !c.modules[provider].Builtin {
			line, found = line+" "+provider, true
		}
	}
	if !found {
		return ""
	}
	return line
}
