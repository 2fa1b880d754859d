// Package lines finds the line of a value in a YAML file. Read Document first.
package lines

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// Document is one YAML document that was read. compose-go forgets on which line a value was.
type Document struct {
	File string
	root *yaml.Node
}

// Parse returns the documents of a file; one that is no YAML has none, and compose-go says why.
func Parse(file string, data []byte) []Document {
	var out []Document
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		if err := decoder.Decode(&node); err != nil || len(node.Content) == 0 {
			return out
		}
		out = append(out, Document{file, node.Content[0]})
	}
}

// Find is the line of path, services.web.image, or of the longest part of it that is there.
func (d Document) Find(path []string) (line, depth int) {
	node := d.root
	for depth < len(path) {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		next := child(node, path[depth])
		if next == nil {
			break
		}
		line, node, depth = next.key.Line, next.value, depth+1
	}
	return line, depth
}

type entry struct{ key, value *yaml.Node }

func child(node *yaml.Node, name string) *entry {
	if node.Kind == yaml.SequenceNode {
		var i int
		if _, err := fmt.Sscanf(name, "%d", &i); err == nil && i >= 0 && i < len(node.Content) {
			return &entry{node.Content[i], node.Content[i]}
		}
		return nil
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return &entry{node.Content[i], node.Content[i+1]}
		}
	}
	return nil
}
