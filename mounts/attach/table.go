package attach

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

//go:embed table.toml
var table string

// Table returns the pseudo file systems of the root in the order of attaching.
func Table() ([]Entry, error) { return ParseTable("table.toml", table) }

// ParseTable reads a mount table. An unknown key, a bad entry and a target named twice are faults; all are reported at
// once.
func ParseTable(name, text string) ([]Entry, error) {
	var file struct {
		Mount []Entry `toml:"mount"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("parse %s:%d: unknown key %s", name, lineOf(text, key[len(key)-1]), key))
	}
	seen := map[string]bool{}
	for _, e := range file.Mount {
		if err := e.Check(); err != nil {
			faults = append(faults, fmt.Errorf("parse %s: %w", name, err))
		}
		if seen[e.Target] {
			faults = append(faults, fmt.Errorf("parse %s: target %s is named twice", name, e.Target))
		}
		seen[e.Target] = true
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return file.Mount, nil
}

// lineOf finds the first line that sets key: the decoder does not report the lines of keys that it skips.
func lineOf(text, key string) int {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if name, _, found := strings.Cut(line, "="); found && strings.TrimSpace(name) == key {
			return n
		}
	}
	return 0
}
