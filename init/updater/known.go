package updater

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"resinos/bsp/bundle"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// maxIndex is far larger than the index of any slot.
const maxIndex = 4 << 20

// indexFile is where the index is kept of the bundle that a slot was written from. The file is a hint: without it an
// installation reads the whole slot that runs to find what that has.
//
//	sha256 of the rest, 32 bytes; the digest of the slot as the record has it, and a line end; the index
func (d *device) indexFile(name slot.Name) string {
	return filepath.Join(filepath.Dir(d.record), fmt.Sprintf("slot-%s.index", name))
}

// keepIndex keeps the index of a bundle that was installed. The update goes on without it.
func (d *device) keepIndex(name slot.Name, b *bundle.Bundle) {
	text, err := b.Index()
	if err == nil {
		rest := append([]byte(b.Manifest().Slot.SHA256+"\n"), text...)
		sum := sha256.Sum256(rest)
		err = atomicfile.Write(d.indexFile(name), append(sum[:], rest...), 0o600)
	}
	if err != nil {
		d.log.Warn("index of the slot is not kept", "path", d.indexFile(name), "error", err)
	}
}

// seed returns the slot that runs with its index, if there is one of what the record says that the slot holds.
func (d *device) seed(running io.ReaderAt) io.ReaderAt {
	r, err := update.Read(d.record)
	holds, known := r.Slots[d.booted]
	if err != nil || !known || holds.Digest == "" {
		return running // it was not installed by an update
	}
	text, err := readIndex(d.indexFile(d.booted), holds.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return running
	}
	if err != nil {
		d.log.Warn("index of the slot is not used", "path", d.indexFile(d.booted), "error", err)
		_ = os.Remove(d.indexFile(d.booted)) // or it is there the next time, and is not used either
		return running
	}
	return bundle.Listed{ReaderAt: running, Index: text}
}

// readIndex reads what keepIndex has kept of a slot with this digest.
func readIndex(path, digest string) ([]byte, error) {
	text, err := plainfile.Read(path, maxIndex)
	if err != nil {
		return nil, err
	}
	if len(text) < sha256.Size || sha256.Sum256(text[sha256.Size:]) != [sha256.Size]byte(text[:sha256.Size]) {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	of, list, _ := bytes.Cut(text[sha256.Size:], []byte("\n"))
	if string(of) != digest {
		return nil, fmt.Errorf("%s is of another version", path)
	}
	return list, nil
}
