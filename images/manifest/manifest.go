// Package manifest is the page that lies in each slot and says what the slot is made of.
//
// It owns: the form of manifest.json. It never does: check a signature or read a disk.
// Read first: Manifest.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Name is the file's name in the slot.
const Name = "manifest.json"

// Format is the version of the form that this package writes and reads.
const Format = 1

// Manifest says what a slot holds.
type Manifest struct {
	Format   int       `json:"format"`
	Version  string    `json:"version"` // of resinOS
	Board    string    `json:"board"`
	Variant  string    `json:"variant"`
	Arch     string    `json:"arch"`
	Kernel   string    `json:"kernel"` // release, as uname -r prints it
	Epoch    int64     `json:"epoch"`  // the time that every file carries
	Files    []File    `json:"files"`
	Packages []Package `json:"packages"`
}

// File is one file of the slot.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Package is one Debian package that something in the slot was taken from.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Encode writes the manifest as JSON with a line's end.
func (m Manifest) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// Parse reads a manifest. Keys it does not know are left alone: a newer builder may have added some.
func Parse(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("parse %s: %w", Name, err)
	}
	var faults []error
	if m.Format != Format {
		faults = append(faults, fmt.Errorf("parse %s: format %d, this program reads %d", Name, m.Format, Format))
	}
	for _, f := range m.Files {
		if f.Name == "" || strings.HasPrefix(f.Name, "/") || strings.Contains(f.Name, "..") || f.Size < 0 || len(f.SHA256) != 64 {
			faults = append(faults, fmt.Errorf("parse %s: file %q: name, size or digest is not valid", Name, f.Name))
		}
	}
	return m, errors.Join(faults...)
}
