package app

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Parse decodes the compose file of the app called name; file is only for messages. The error is
// Faults with everything that is wrong, and with what would make a container looser than asked.
// Warnings name what compose knows and we leave out; the app runs all the same.
func Parse(name, file string, data []byte) (App, Faults, error) {
	p := &parser{file: file}
	if !ValidName(name) {
		p.fault(nil, "", fmt.Sprintf("app name %q is not of a-z, 0-9 and single - or _ between them", name))
		return App{}, nil, p.faults
	}
	root := p.document(data)
	if root == nil {
		return App{}, nil, p.faults
	}
	a := App{Name: name, Containers: p.project(name, root)}
	slices.SortFunc(p.warnings, byLine)
	p.warnings = slices.Compact(p.warnings)
	if len(p.faults) > 0 {
		slices.SortFunc(p.faults, byLine)
		return App{}, p.warnings, p.faults
	}
	return a, p.warnings, nil
}

func byLine(a, b Fault) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Path, b.Path), strings.Compare(a.Text, b.Text))
}

type parser struct {
	file             string
	faults, warnings Faults
	known            map[string]Link // the app's networks
}

func (p *parser) fault(n *yaml.Node, path, text string) {
	p.faults = append(p.faults, p.at(n, path, text))
}

func (p *parser) warn(n *yaml.Node, path, text string) {
	p.warnings = append(p.warnings, p.at(n, path, text))
}

func (p *parser) at(n *yaml.Node, path, text string) Fault {
	f := Fault{File: p.file, Path: path, Text: strings.ReplaceAll(text, "\n", " ")}
	if n != nil {
		f.Line = n.Line
	}
	return f
}

// document returns the mapping that is the whole file, or nil after a fault.
func (p *parser) document(data []byte) *yaml.Node {
	if len(data) > MaxSize {
		p.fault(nil, "", fmt.Sprintf("larger than %d KiB", MaxSize>>10))
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		p.fault(nil, "", "empty, it needs services")
		return nil
	case err != nil:
		p.fault(&yaml.Node{Line: lineOf(err)}, "", err.Error())
		return nil
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		p.fault(&more, "", "more than one document")
		return nil
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		p.fault(doc.Content[0], "", "not a mapping")
		return nil
	}
	return doc.Content[0]
}

// lineOf finds the last "line N" in the text of a YAML error, where the reader was when it gave up.
func lineOf(err error) int {
	text := err.Error()
	line := 0
	if i := strings.LastIndex(text, "line "); i >= 0 {
		// no number is line 0, which is none
		_, _ = fmt.Sscanf(text[i:], "line %d", &line)
	}
	return line
}

// project reads the top level.
func (p *parser) project(name string, root *yaml.Node) []Container {
	var services, networks *yaml.Node
	p.each(root, "", func(key, value *yaml.Node, path string) {
		switch {
		case key.Value == "services":
			services = value
		case key.Value == "networks":
			networks = value
		case key.Value == "include":
			p.fault(key, path, "files are not included, write the services here")
		case key.Value == "name" || key.Value == "version" || strings.HasPrefix(key.Value, "x-"):
			// the folder names the app; the version is obsolete; extensions are for others
		case slices.Contains([]string{"volumes", "secrets", "configs", "models"}, key.Value):
			p.warn(key, path, "not supported, left out") // a service that uses one is refused
		default:
			p.fault(key, path, "no key of compose")
		}
	})
	if services == nil {
		p.fault(root, "", "services is lacking")
		return nil
	}
	p.known = p.networks(networks)
	return p.services(name, services)
}

func (p *parser) services(name string, node *yaml.Node) []Container {
	var out []Container
	if resolve(node).Kind != yaml.MappingNode || len(resolve(node).Content) == 0 {
		p.fault(node, "services", "needs at least one service")
		return nil
	}
	p.each(node, "services", func(key, value *yaml.Node, path string) {
		if !ValidName(key.Value) || len(name)+1+len(key.Value) > maxID {
			p.fault(key, path, fmt.Sprintf("service name is not of a-z, 0-9 and single - or _ between them, or longer than %d with the app's name", maxID))
			return
		}
		if c, enabled := p.service(name, key, value, path); enabled {
			out = append(out, c)
		}
	})
	slices.SortFunc(out, func(a, b Container) int { return strings.Compare(a.Service, b.Service) })
	return out
}

// service reads one service; enabled is false for one that only a profile would start.
func (p *parser) service(app string, key, node *yaml.Node, path string) (c Container, enabled bool) {
	c = Container{App: app, Service: key.Value, Restart: Restart{Policy: Never}, StopGrace: defaultStopGrace}
	if resolve(node).Kind != yaml.MappingNode {
		p.fault(node, path, "not a mapping")
		return c, false
	}
	enabled = true
	p.each(node, path, func(key, value *yaml.Node, path string) {
		switch {
		case key.Value == "profiles":
			if len(resolve(value).Content) > 0 {
				p.warn(key, path, "profiles are never active here, the service is left out")
				enabled = false
			}
		case strings.HasPrefix(key.Value, "x-"):
		default:
			p.key(&c, key, value, path)
		}
	})
	if c.Image == "" && !p.faultBelow(path+".image") {
		p.fault(key, path, "image is lacking")
	}
	p.join(&c, key, path)
	return c, enabled
}

func (p *parser) faultBelow(path string) bool {
	return slices.ContainsFunc(p.faults, func(f Fault) bool { return strings.HasPrefix(f.Path, path) })
}

// each calls f for every key of a mapping. A key twice is a fault; a merge key (<<) is one too, as
// it would need the whole of compose's rules.
func (p *parser) each(node *yaml.Node, path string, f func(key, value *yaml.Node, path string)) {
	node = resolve(node)
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		sub := strings.TrimPrefix(path+"."+key.Value, ".")
		switch {
		case key.Kind != yaml.ScalarNode:
			p.fault(key, path, "a key is not a string")
		case seen[key.Value]:
			p.fault(key, sub, "given twice")
		case key.Value == "<<":
			p.fault(key, sub, "merge keys are not supported")
		default:
			seen[key.Value] = true
			f(key, value, sub)
		}
	}
}

// resolve follows one alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
