// Package persist owns the paths of the read-only root that persist: the table of binds, and their creation on the
// state partition.
//
// It never follows a symlink below the state partition, whose content a stranger may have written, and never overwrites
// an existing file. Read Bind first.
package persist

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Overlay is the directory on the state partition that mirrors the paths of the root.
const Overlay = "root-overlay"

//go:embed persist.toml
var table string

// Kind is the kind of file at a path.
type Kind string

// The kinds of a bind.
const (
	File      Kind = "file"
	Directory Kind = "directory"
)

// Bind is one path of the root that its counterpart on the state partition replaces.
type Bind struct {
	Path string // absolute path in the root
	Kind Kind
	Mode fs.FileMode // permissions of what is created at the first use
}

// String returns the line of the bind in a plan.
func (b Bind) String() string {
	return fmt.Sprintf("bind %s %s from %s mode %04o", b.Kind, b.Path, path.Join(Overlay, b.Path), b.Mode)
}

// Table returns the binds of every board.
func Table() ([]Bind, error) { return Parse("persist.toml", table) }

// Parse reads a table of binds and reports all faults at once.
func Parse(name, text string) ([]Bind, error) {
	var file struct {
		Bind []struct {
			Path string `toml:"path"`
			Kind Kind   `toml:"kind"`
			Mode string `toml:"mode"`
		} `toml:"bind"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("parse %s: "+format, append([]any{name}, args...)...))
	}
	for _, key := range meta.Undecoded() {
		fault("line %d: unknown key %s", lineOf(text, key[len(key)-1]), key)
	}
	binds := make([]Bind, 0, len(file.Bind))
	for _, entry := range file.Bind {
		b := Bind{Path: entry.Path, Kind: entry.Kind}
		if !path.IsAbs(b.Path) || path.Clean(b.Path) != b.Path || b.Path == "/" {
			fault("path %q is not a clean absolute path below the root", b.Path)
		}
		for _, other := range binds {
			if b.Path == other.Path || strings.HasPrefix(b.Path, other.Path+"/") ||
				strings.HasPrefix(other.Path, b.Path+"/") {
				fault("%s and %s overlap", other.Path, b.Path)
			}
		}
		if b.Mode, err = parseMode(b.Kind, entry.Mode); err != nil {
			fault("%s: %w", b.Path, err)
		}
		binds = append(binds, b)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return binds, nil
}

func parseMode(kind Kind, text string) (fs.FileMode, error) {
	switch {
	case kind != File && kind != Directory:
		return 0, fmt.Errorf("kind %q is neither file nor directory", kind)
	case text == "" && kind == File:
		return 0o644, nil
	case text == "":
		return 0o755, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode %q is not an octal number up to 0777", text)
	}
	return fs.FileMode(n), nil
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
