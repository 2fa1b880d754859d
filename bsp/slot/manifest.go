package slot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// ManifestFormat is the version of the manifest that this package writes and reads.
const ManifestFormat = 1

// Manifest lists the files of a slot and the packages that they were made from.
type Manifest struct {
	Format   int       `json:"format"`
	Version  string    `json:"version"` // of resinOS
	Board    string    `json:"board"`
	Variant  string    `json:"variant"`
	Arch     string    `json:"arch"`
	Kernel   string    `json:"kernel"`              // release, as uname -r prints it
	Epoch    int64     `json:"epoch"`               // the time stamp of every file
	Root     string    `json:"root_hash,omitempty"` // of the hash tree behind the root; empty: it has none
	Files    []File    `json:"files"`
	Packages []Package `json:"packages"`
}

// File is one file of the slot.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Package is one Debian package from which something in the slot was taken.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Encode returns the manifest as JSON with a final newline.
func (m Manifest) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// ParseManifest reads a manifest. It ignores keys that it does not know: a newer builder may have added some. The error
// names all faults; a manifest that is returned with an error must not be used.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("parse %s: %w", ManifestFile, err)
	}
	var faults []error
	if m.Format != ManifestFormat {
		faults = append(faults, fmt.Errorf("parse %s: format %d, this program reads %d", ManifestFile, m.Format,
			ManifestFormat))
	}
	known := make(map[string]bool)
	for _, f := range m.Files {
		switch digest, err := hex.DecodeString(f.SHA256); {
		case !fs.ValidPath(f.Name) || f.Name == ".":
			faults = append(faults, fmt.Errorf("parse %s: file %q: name is not a path in the slot", ManifestFile,
				f.Name))
		case known[f.Name]:
			faults = append(faults, fmt.Errorf("parse %s: file %q is listed twice", ManifestFile, f.Name))
		case f.Size < 0 || err != nil || len(digest) != sha256.Size:
			faults = append(faults, fmt.Errorf("parse %s: file %q: size or digest is not valid", ManifestFile, f.Name))
		}
		known[f.Name] = true
	}
	return m, errors.Join(faults...)
}
