// Package rootfs owns the content of the read-only root and of the initramfs.
//
// It owns the table rootfs.toml beside it and the files that are generated from versions, boards and packages. It never
// fetches, unpacks or compresses; it builds a tree that refers to existing files. Read first: Table, then Root.
package rootfs

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

//go:embed rootfs.toml
var builtin string

// Variants of an image.
var variants = []string{"production", "development", "standalone"}

// Variants lists the variants of an image.
func Variants() []string { return slices.Clone(variants) }

// Table is the decoded rootfs.toml.
type Table struct {
	Directories []Directory `toml:"directory"`
	Links       []Link      `toml:"link"`
	Programs    []Program   `toml:"program"`
	Packages    []Package   `toml:"package"`
	Files       []File      `toml:"file"`
	Busybox     Busybox     `toml:"busybox"`
	Packed      []Packed    `toml:"packed"`
	Early       Initramfs   `toml:"initramfs"`
	Recovery    Recovery    `toml:"recovery"`
}

// Directory creates directories of one mode.
type Directory struct {
	Paths []string `toml:"paths"`
	Mode  Mode     `toml:"mode"`
	In    []string `toml:"variants"`
}

// Link is a symbolic link.
type Link struct {
	Path   string   `toml:"path"`
	Target string   `toml:"target"`
	In     []string `toml:"variants"`
	Part   string   `toml:"part"`
}

// Program is one of our programs, with symbolic links for its further names.
type Program struct {
	Name  string   `toml:"name"`
	Path  string   `toml:"path"`
	Links []string `toml:"links"`
	In    []string `toml:"variants"`
	Part  string   `toml:"part"`
}

// Package copies files from a Debian package; if Source is a pattern, the matches are joined into one file.
type Package struct {
	Name   string   `toml:"name"`
	Source string   `toml:"source"`
	Path   string   `toml:"path"`
	Mode   Mode     `toml:"mode"`
	In     []string `toml:"variants"`
}

// File is a text file.
type File struct {
	Path string   `toml:"path"`
	Text string   `toml:"text"`
	Mode Mode     `toml:"mode"`
	In   []string `toml:"variants"`
}

// Packed names a packed program (mounts/packed): all entries below its directory are packed into one file.
type Packed struct {
	Name string   `toml:"name"`
	In   []string `toml:"variants"`
}

// Busybox lists the links to busybox.
type Busybox struct {
	Directory string   `toml:"directory"`
	Applets   []string `toml:"applets"`
	In        []string `toml:"variants"`
}

// Initramfs lists the content of the initramfs besides the program init and the modules.
type Initramfs struct {
	Directories []string `toml:"directories"`
}

// Mode is the permission bits of an entry, written in octal; zero means the default.
type Mode fs.FileMode

// UnmarshalText reads the octal digits.
func (m *Mode) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 8, 12)
	if err != nil {
		return fmt.Errorf("mode %q: want octal digits such as 0755", text)
	}
	*m = Mode(v)
	return nil
}

func (m Mode) or(other fs.FileMode) fs.FileMode {
	if m == 0 {
		return other
	}
	return fs.FileMode(m)
}

// Load decodes the built-in table.
func Load() (Table, error) { return Parse("images/rootfs/rootfs.toml", builtin) }

// Parse decodes a table; file is its name for messages. Unknown keys and unknown variants are faults, all reported at
// once.
func Parse(file, text string) (Table, error) {
	var t Table
	meta, err := toml.Decode(text, &t)
	if err != nil {
		return Table{}, fmt.Errorf("parse %s: %w", file, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("%s: unknown key %s", file, key))
	}
	for _, list := range t.variantLists() {
		for _, v := range list {
			if !slices.Contains(variants, v) {
				faults = append(faults, fmt.Errorf("%s: unknown variant %q; there are %s", file, v,
					strings.Join(variants, ", ")))
			}
		}
	}
	return t, errors.Join(faults...)
}

func (t Table) variantLists() [][]string {
	all := [][]string{t.Busybox.In, t.Recovery.In}
	for _, d := range t.Directories {
		all = append(all, d.In)
	}
	for _, l := range t.Links {
		all = append(all, l.In)
	}
	for _, p := range t.Programs {
		all = append(all, p.In)
	}
	for _, p := range t.Packages {
		all = append(all, p.In)
	}
	for _, p := range t.Packed {
		all = append(all, p.In)
	}
	for _, f := range t.Files {
		all = append(all, f.In)
	}
	return all
}

// Parts lists what an image may be built without.
func (t Table) Parts() (parts []string) {
	for _, p := range t.Programs {
		if p.Part != "" && !slices.Contains(parts, p.Part) {
			parts = append(parts, p.Part)
		}
	}
	return parts
}

// carries reports whether an entry with this list of variants is in an image of the given one.
func carries(list []string, variant string) bool {
	return len(list) == 0 || slices.Contains(list, variant)
}
