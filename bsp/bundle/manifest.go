package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/semver"

	"resinos/bsp/bundle/index"
)

// Format is the version of the file format that this package writes and reads.
const Format = 2

// Largest sizes, which bound what a device allocates before it knows more.
const (
	maxHead  = 256 << 10
	maxIndex = 4 << 20 // 104,857 chunks
	maxSlot  = 64 << 30
)

// Manifest says for which devices a bundle is and what it contains. It is the signed text of the bundle.
type Manifest struct {
	Format        int        `json:"format"`
	Board         string     `json:"board"`
	Variant       string     `json:"variant"`
	Version       string     `json:"version"`            // of resinOS
	MinFrom       string     `json:"min_from,omitempty"` // the oldest version that may be replaced; empty: any
	RollbackIndex int64      `json:"rollback_index"`     // a device refuses a lower one than it has confirmed
	Slot          SlotImage  `json:"slot"`
	Root          Root       `json:"root"`
	Boot          []BootFile `json:"boot"`
	Index         Index      `json:"index"`
	Data          int64      `json:"data"` // bytes of all stored chunks
	Deltas        []Delta    `json:"deltas,omitempty"`
}

// SlotImage describes the file system of the slot. The partition may be larger. The digest names the content, also in a
// device's record of versions that failed: Install verifies each entry of the index, which the manifest confirms too.
type SlotImage struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Root describes the hash tree over the squashfs that the slot contains; empty if the slot has none.
type Root struct {
	VerityHash string `json:"verity_hash,omitempty"`
}

// BootFile is a file of the boot partition that the slot was built with.
type BootFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Index describes the list of chunks that follows the manifest.
type Index struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Encode returns the manifest as the text to sign.
func (m Manifest) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// ParseManifest reads the text of a bundle's note. The error names all faults. Keys that it does not know are ignored;
// a change that an older device must not ignore has another format.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("parse manifest of the bundle: %w", err)
	}
	if m.Format != Format {
		return Manifest{}, fmt.Errorf("parse manifest of the bundle: format %d, this device reads %d; "+
			"install a version in between first", m.Format, Format)
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

func (m Manifest) check() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("parse manifest of the bundle: "+format, args...))
		}
	}
	for _, name := range [][2]string{{"board", m.Board}, {"variant", m.Variant}, {"version", m.Version}} {
		want(name[1] != "", "no %s", name[0])
	}
	want(m.Version == "" || ValidVersion(m.Version), "version %q: want three numbers such as 1.2.3", m.Version)
	want(m.MinFrom == "" || ValidVersion(m.MinFrom), "min_from %q: want three numbers such as 1.2.3", m.MinFrom)
	want(m.RollbackIndex >= 0 && m.RollbackIndex <= 1<<31, "rollback index %d: want 0 to 2147483648", m.RollbackIndex)
	want(m.Slot.Size > 0 && m.Slot.Size <= maxSlot && m.Slot.Size%index.Block == 0,
		"slot size %d: want blocks of %d bytes, at most %d bytes", m.Slot.Size, index.Block, int64(maxSlot))
	want(validDigest(m.Slot.SHA256), "sha256 of the slot %q is no digest", m.Slot.SHA256)
	want(m.Root.VerityHash == "" || validDigest(m.Root.VerityHash), "verity hash %q is no digest", m.Root.VerityHash)
	want(m.Index.Size > 0 && m.Index.Size <= maxIndex && m.Index.Size%index.EntrySize == 0,
		"index size %d: want entries of %d bytes, at most %d bytes", m.Index.Size, index.EntrySize, maxIndex)
	want(validDigest(m.Index.SHA256), "sha256 of the index %q is no digest", m.Index.SHA256)
	want(m.Data >= 0 && m.Data <= m.Slot.Size, "data size %d: want at most the slot's %d bytes", m.Data, m.Slot.Size)
	want(len(m.Deltas) <= maxDeltas, "%d deltas: want at most %d", len(m.Deltas), maxDeltas)
	for n, d := range m.Deltas {
		err := d.check(m.Slot.Size)
		want(err == nil, "delta %d, from version %q: %v", n+1, d.From, err)
	}
	known := make(map[string]bool)
	for _, f := range m.Boot {
		want(fs.ValidPath(f.Name) && f.Name != ".", "boot file %q: name is not a path in the boot partition", f.Name)
		want(!known[strings.ToLower(f.Name)], "boot file %q is listed twice", f.Name)
		want(f.Size >= 0 && validDigest(f.SHA256), "boot file %q: size or digest is not valid", f.Name)
		known[strings.ToLower(f.Name)] = true
	}
	return errors.Join(faults...)
}

// deltas returns how many bytes the lists and groups of all deltas have.
func (m Manifest) deltas() (size int64) {
	for _, d := range m.Deltas {
		size += d.size()
	}
	return size
}

// ValidVersion reports whether v is a semantic version: three numbers, then perhaps a pre-release and a build.
func ValidVersion(v string) bool {
	core, _, _ := strings.Cut(v, "-")
	core, _, _ = strings.Cut(core, "+")
	return semver.IsValid("v"+v) && strings.Count(core, ".") == 2
}

func validDigest(text string) bool {
	digest, err := hex.DecodeString(text)
	return err == nil && len(digest) == sha256.Size && text == strings.ToLower(text)
}
