// Package index owns the list of the chunks of a slot: how a slot is cut, how the list is written, and how a stored
// chunk is unpacked.
//
// It never reads a bundle file and decides nothing about a device. Read first: Entry, then Chunks.
package index

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// EntrySize is the size of an entry of the index:
//
//	0   4  bytes of the slot that the entry stands for
//	4   4  bytes that are stored for it; 0: nothing, the entry is a run of zeros or repeats an earlier chunk
//	8  32  sha256 of the bytes of the slot; all zero: a run of zeros
//
// Numbers are big endian. Entries follow each other in the slot and in the file without a gap, so no offset is stored
// that could be wrong. A chunk of which as many bytes are stored as it has is not compressed.
const EntrySize = 8 + sha256.Size

// Digest is the sha256 of a chunk.
type Digest [sha256.Size]byte

// Entry is one part of the slot.
type Entry struct {
	Offset int64 // in the slot
	Length int64
	Place  int64 // of the stored bytes, from the first stored byte of the bundle
	Stored int64
	Digest Digest
}

// Zeros reports whether the entry is a run of zeros.
func (e Entry) Zeros() bool { return e.Digest == Digest{} }

// Encode returns the index of entries that follow each other.
func Encode(entries []Entry) []byte {
	b := make([]byte, 0, len(entries)*EntrySize)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Length))
		b = binary.BigEndian.AppendUint32(b, uint32(e.Stored))
		b = append(b, e.Digest[:]...)
	}
	return b
}

// Parse reads the index of a bundle. Its entries cover the slot and the stored bytes exactly, as many as given.
func Parse(text []byte, slot, data int64) ([]Entry, error) {
	if len(text)%EntrySize != 0 {
		return nil, fmt.Errorf("parse index of the bundle: %d bytes are no whole entries", len(text))
	}
	entries := make([]Entry, 0, len(text)/EntrySize)
	stored := make(map[Digest]int64, cap(entries)) // length of each chunk that is stored
	at, place := int64(0), int64(0)
	for i := 0; i < len(text); i += EntrySize {
		e := Entry{
			Offset: at, Length: int64(binary.BigEndian.Uint32(text[i:])),
			Place: place, Stored: int64(binary.BigEndian.Uint32(text[i+4:])), Digest: Digest(text[i+8 : i+EntrySize]),
		}
		if err := e.check(stored); err != nil {
			return nil, fmt.Errorf("parse index of the bundle: entry %d: %w", i/EntrySize, err)
		}
		if e.Stored > 0 {
			stored[e.Digest] = e.Length
		}
		at, place = at+e.Length, place+e.Stored
		if at > slot || place > data {
			return nil, fmt.Errorf("parse index of the bundle: entry %d: ends beyond the slot or the stored chunks",
				i/EntrySize)
		}
		entries = append(entries, e)
	}
	if at != slot || place != data {
		return nil, fmt.Errorf("parse index of the bundle: it covers %d of %d bytes of the slot, %d of %d stored bytes",
			at, slot, place, data)
	}
	return entries, nil
}

// Places calls each with every chunk of a slot, as the index of the bundle that it was written from has them. size is
// that of the slot. It asks nothing about stored bytes: the bundle is not there any more.
func Places(text []byte, size int64, each func(offset, length int64, digest Digest)) error {
	at := int64(0)
	for ; len(text) >= EntrySize; text = text[EntrySize:] {
		length, digest := int64(binary.BigEndian.Uint32(text)), Digest(text[8:EntrySize])
		if at+length > size {
			break
		}
		if digest != (Digest{}) && length <= MaxChunk {
			each(at, length, digest)
		}
		at += length
	}
	if len(text) > 0 {
		return fmt.Errorf("parse index of a slot: it ends within an entry, or beyond %d bytes", size)
	}
	return nil
}

// check judges an entry; stored has the lengths of the chunks before it.
func (e Entry) check(stored map[Digest]int64) error {
	switch before, known := stored[e.Digest]; {
	case e.Zeros() && (e.Stored != 0 || e.Length <= 0 || e.Length > maxZeros):
		return fmt.Errorf("a run of %d zeros with %d stored bytes", e.Length, e.Stored)
	case e.Zeros():
		return nil
	case e.Length <= 0 || e.Length > MaxChunk:
		return fmt.Errorf("a chunk of %d bytes: want 1 to %d", e.Length, MaxChunk)
	case e.Stored > e.Length:
		return fmt.Errorf("%d bytes are stored for a chunk of %d", e.Stored, e.Length)
	case e.Stored > 0 && known:
		return fmt.Errorf("chunk %x is stored twice", e.Digest[:8])
	case e.Stored == 0 && before != e.Length:
		return fmt.Errorf("chunk %x is not stored", e.Digest[:8])
	}
	return nil
}
