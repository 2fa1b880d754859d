// Package kmod owns kernel modules: their dependencies, the order of loading, the devices they are for, and loading
// them.
//
// The build side (Module, Closure, index files) is pure; bsp/modinfo reads .ko files, so that PID 1 links neither ELF
// nor xz. The device side is Index and Loader. Nothing here reads a module's code or unloads a module.
//
// The device does not link u-root's pkg/kmodule, which reads the same modules.dep: it costs 0.9 MB of program, 0.9 MB
// of resident memory and 3 ms at each start of a process (docs/decisions/0003-own-module-loader-on-the-device.md). A
// test compares both. Its Prober knows no aliases, ends when a module is loaded that the index does not list, and
// starts one goroutine for each dependency.
//
// Read Index first.
package kmod

import (
	"bytes"
	"errors"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// CompressedSuffix ends the path of a module that is compressed. Kernels of Debian read modules in this format.
const CompressedSuffix = ".xz"

// A Module is the content of one module's .modinfo section, and its path.
type Module struct {
	Name     string   // with _ for -
	Path     string   // below the directory of the release, such as "kernel/fs/ext4/ext4.ko"
	Builtin  bool     // part of the kernel image: needs no loading
	Depends  []string // names
	Pre      []string // soft dependencies, names or aliases: loaded before if they exist
	Post     []string // the same, loaded after
	Aliases  []string // patterns with _ for - outside brackets
	Firmware []string // files below usr/lib/firmware
	Nodes    []Node   // device nodes that load the module when they are opened
}

// A Node is a device node that can exist before its module is loaded.
type Node struct {
	Name         string // below /dev
	Block        bool
	Major, Minor uint32
}

// ParseModinfo reads a .modinfo section: NUL-separated key=value records. Path is left empty.
func ParseModinfo(section []byte) (Module, error) {
	var m Module
	var nodes []string
	for record := range bytes.SplitSeq(section, []byte{0}) {
		key, value, found := strings.Cut(string(record), "=")
		if !found {
			continue // padding
		}
		switch key {
		case "name":
			m.Name = Name(value)
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, Name(d))
				}
			}
		case "softdep":
			m.addSoft(value)
		case "alias":
			if node, found := strings.CutPrefix(value, "devname:"); found {
				nodes = append(nodes, node)
			}
			if alias := Alias(value); !strings.ContainsAny(alias, " \t\n") {
				m.Aliases = append(m.Aliases, alias)
			}
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		}
	}
	if strings.ContainsAny(m.Name, " /\n") {
		return Module{}, errors.New("modinfo: the module has no name")
	}
	m.Nodes = m.numbered(nodes)
	return m, nil
}

// numbered gives a module's nodes the numbers from its aliases of the form "char-major-10-200", in their order.
func (m *Module) numbered(names []string) []Node {
	var all []Node
	for _, a := range m.Aliases {
		kind, numbers, found := strings.Cut(a, "_major_")
		majorText, minorText, both := strings.Cut(numbers, "_")
		major, err1 := strconv.ParseUint(majorText, 10, 12)
		minor, err2 := strconv.ParseUint(minorText, 10, 20)
		if !found || !both || err1 != nil || err2 != nil || kind != "char" && kind != "block" ||
			len(all) == len(names) {
			continue
		}
		name := names[len(all)]
		if !filepath.IsLocal(name) || strings.ContainsAny(name, " \t\n") {
			return nil
		}
		all = append(all, Node{Name: name, Block: kind == "block", Major: uint32(major), Minor: uint32(minor)})
	}
	return all
}

// addSoft reads "pre: a b post: c".
func (m *Module) addSoft(value string) {
	var into *[]string
	for _, word := range strings.Fields(value) {
		switch word {
		case "pre:":
			into = &m.Pre
		case "post:":
			into = &m.Post
		default:
			if into != nil {
				*into = append(*into, Alias(word))
			}
		}
	}
}

// BuiltinModules reads the lines of modules.builtin.
func BuiltinModules(text string) []Module {
	var all []Module
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, Module{Name: NameOf(line), Path: line, Builtin: true})
		}
	}
	return all
}

// Name returns the name of a module as the kernel writes it: with _ for -.
func Name(name string) string { return strings.ReplaceAll(name, "-", "_") }

// NameOf returns the name of the module in file, compressed or not.
func NameOf(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return Name(base)
}

// Alias returns an alias or a modalias with _ for - outside brackets, so that both sides compare equal.
func Alias(alias string) string {
	if !strings.Contains(alias, "-") {
		return alias
	}
	b, inside := []byte(alias), false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}
