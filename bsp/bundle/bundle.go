// Package bundle owns the update file: its format, its signatures, and how the slot that it contains gets onto a disk.
//
//	magic     8 bytes, "RESINB1\n"
//	length    4 bytes, big endian: size of the note
//	note      the manifest as JSON, signed (golang.org/x/mod/sumdb/note)
//	index     the entries of the slot; size and sha256 are in the manifest
//	chunks    as many bytes as the manifest says
//	deltas    for each one that the manifest names, its list and its groups; nothing follows
//
// Nothing behind the note is read before its signatures hold, and nothing is believed that the manifest does not
// confirm by a digest. The package never chooses a slot, never arms a switch and never opens a network connection (a
// Source may). Read first: Open, then Bundle.Install.
package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"resinos/bsp/bundle/index"
	"resinos/bsp/bundle/trust"
)

const (
	magic     = "RESINB1\n"
	prefix    = len(magic) + 4 // bytes before the note
	atOnce    = 1 << 20        // the most that is read from a source in one piece
	notBundle = "it does not begin like a bundle of this format"
)

// Source is what a bundle is read from: a file, or a server that answers requests for ranges.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Bundle is a bundle whose signatures hold.
type Bundle struct {
	src      Source
	manifest Manifest
	index    int64  // where the index begins
	data     int64  // where the chunks begin
	text     []byte // the index, once it was read
}

// Open reads the manifest and verifies it. It reads nothing behind the manifest.
func Open(src Source, keys trust.Keys) (*Bundle, error) {
	signed, err := readNote(src)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	text, err := keys.Verify(signed)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, err
	}
	b := &Bundle{src: src, manifest: m, index: int64(prefix + len(signed))}
	b.data = b.index + m.Index.Size
	if want := b.data + m.Data + m.deltas(); src.Size() != want {
		return nil, fmt.Errorf("open bundle: it has %d bytes, its manifest says %d: %s",
			src.Size(), want, cutOrLong(src.Size(), want))
	}
	return b, nil
}

// readNote reads the signed note, which nothing vouches for yet.
func readNote(src Source) ([]byte, error) {
	head := make([]byte, prefix)
	if err := readFull(src, head, 0); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, errors.New(notBundle)
	}
	size := binary.BigEndian.Uint32(head[len(magic):])
	if size == 0 || size > maxHead {
		return nil, fmt.Errorf("its manifest has %d bytes, want 1 to %d", size, maxHead)
	}
	signed := make([]byte, size)
	return signed, readFull(src, signed, int64(prefix))
}

func cutOrLong(size, want int64) string {
	if size < want {
		return "it was cut short; fetch it again"
	}
	return "something was appended to it; fetch it again"
}

// Manifest returns the signed manifest.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// Index reads the index and verifies it. Whoever keeps it knows later what the slot has where: see Listed.
func (b *Bundle) Index() (text []byte, err error) {
	if b.text == nil {
		b.text, err = b.readList(b.index, b.manifest.Index, "index")
	}
	return b.text, err
}

func (b *Bundle) entries() ([]index.Entry, error) {
	text, err := b.Index()
	if err != nil {
		return nil, err
	}
	return index.Parse(text, b.manifest.Slot.Size, b.manifest.Data)
}

// readList reads the index or the list of a delta, which is called what in errors, and verifies it.
func (b *Bundle) readList(at int64, list Index, what string) ([]byte, error) {
	text := make([]byte, list.Size) // bounded by ParseManifest
	for from := 0; from < len(text); from += atOnce {
		if err := readFull(b.src, text[from:min(from+atOnce, len(text))], at+int64(from)); err != nil {
			return nil, fmt.Errorf("read %s of the bundle: %w", what, err)
		}
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != list.SHA256 {
		return nil, fmt.Errorf("read %s of the bundle: its sha256 is not that of the manifest: "+
			"the bundle is damaged, or made of two", what)
	}
	return text, nil
}

// Head returns the first bytes of a bundle file, up to the index.
func Head(signed []byte) ([]byte, error) {
	if len(signed) == 0 || len(signed) > maxHead {
		return nil, fmt.Errorf("write bundle: its manifest has %d bytes, want 1 to %d", len(signed), maxHead)
	}
	var b bytes.Buffer
	b.WriteString(magic)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(signed))))
	b.Write(signed)
	return b.Bytes(), nil
}

// window keeps the stored bytes that one request has read.
type window struct {
	src      io.ReaderAt
	base     int64 // where place 0 is in src
	buffer   []byte
	from, to int64 // the places that buffer has
	fetched  int64 // bytes that were read from src
}

// read returns the bytes from one place to another. If buffer lacks them, it reads them together with those that follow
// up to end, at most atOnce. They are valid until the next call.
func (w *window) read(from, to, end int64) ([]byte, error) {
	if from < w.from || to > w.to {
		if w.buffer == nil {
			w.buffer = make([]byte, atOnce)
		}
		w.from, w.to = 0, 0
		if err := readFull(w.src, w.buffer[:end-from], w.base+from); err != nil {
			return nil, err
		}
		w.from, w.to = from, end
		w.fetched += end - from
	}
	return w.buffer[from-w.from:][:to-from], nil
}

// readFull fills p from offset at; a source that ends earlier is a fault.
func readFull(src io.ReaderAt, p []byte, at int64) error {
	n, err := src.ReadAt(p, at)
	if n == len(p) {
		return nil // io.ReaderAt may return io.EOF with the last bytes
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), at, err)
}
