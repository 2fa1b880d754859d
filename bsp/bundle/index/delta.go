package index

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// GroupSize is the size of an entry of the list of a delta:
//
//	0   4  number of the first entry of the index that the group stands for
//	4   4  how many entries, which follow each other
//	8   8  where its dictionary begins in the old slot
//	16  4  bytes of the dictionary
//	20  4  bytes that are stored for the group
//
// Numbers are big endian. The stored bytes of the groups follow each other without a gap.
const GroupSize = 24

// The most bytes of the slot that a group stands for, and of its dictionary.
const (
	MaxGroup      = 64 << 10
	MaxDictionary = 1 << 20
	maxBase       = 1 << 40 // no slot is as large
)

// dictionaryID is the name that the format zstd wants for a dictionary.
const dictionaryID = 1

// Group is some entries of the index, packed together with a part of an old slot as dictionary.
type Group struct {
	First, Count int
	Base         int64 // where the dictionary begins in the old slot
	BaseLength   int64
	Place        int64 // of the stored bytes, from the first one of the delta
	Stored       int64
}

// EncodeGroups returns the list of a delta.
func EncodeGroups(groups []Group) []byte {
	b := make([]byte, 0, len(groups)*GroupSize)
	for _, g := range groups {
		b = binary.BigEndian.AppendUint32(b, uint32(g.First))
		b = binary.BigEndian.AppendUint32(b, uint32(g.Count))
		b = binary.BigEndian.AppendUint64(b, uint64(g.Base))
		b = binary.BigEndian.AppendUint32(b, uint32(g.BaseLength))
		b = binary.BigEndian.AppendUint32(b, uint32(g.Stored))
	}
	return b
}

// ParseGroups reads the list of a delta: groups of the entries in their order, with data stored bytes altogether.
func ParseGroups(text []byte, entries []Entry, data int64) ([]Group, error) {
	if len(text)%GroupSize != 0 {
		return nil, fmt.Errorf("parse delta of the bundle: %d bytes are no whole groups", len(text))
	}
	groups := make([]Group, 0, len(text)/GroupSize)
	next, place := uint64(0), int64(0)
	for at := 0; at < len(text); at += GroupSize {
		first, count := uint64(binary.BigEndian.Uint32(text[at:])), uint64(binary.BigEndian.Uint32(text[at+4:]))
		g := Group{
			First: int(first), Count: int(count), Base: int64(binary.BigEndian.Uint64(text[at+8:])),
			BaseLength: int64(binary.BigEndian.Uint32(text[at+16:])), Place: place,
			Stored: int64(binary.BigEndian.Uint32(text[at+20:])),
		}
		if first < next || count == 0 || first+count > uint64(len(entries)) {
			return nil, fmt.Errorf("parse delta of the bundle: group %d stands for entries %d to %d of %d",
				at/GroupSize, first, first+count, len(entries))
		}
		length, zeros := Span(entries[first : first+count])
		if zeros || length > MaxGroup || g.Stored == 0 || g.Stored > MaxGroup || !g.baseValid() {
			return nil, fmt.Errorf("parse delta of the bundle: group %d: %d bytes stored for %d, %d of dictionary",
				at/GroupSize, g.Stored, length, g.BaseLength)
		}
		groups = append(groups, g)
		next, place = first+count, place+g.Stored
	}
	if place != data {
		return nil, fmt.Errorf("parse delta of the bundle: its groups have %d of %d stored bytes", place, data)
	}
	return groups, nil
}

func (g Group) baseValid() bool {
	return g.Base >= 0 && g.Base <= maxBase && g.BaseLength <= MaxDictionary
}

// Span returns how many bytes of the slot entries stand for, and whether a run of zeros is among them.
func Span(entries []Entry) (length int64, zeros bool) {
	for _, e := range entries {
		length += e.Length
		zeros = zeros || e.Zeros()
	}
	return length, zeros
}

// PackGroup compresses the content of a group. The same bytes give the same result.
func PackGroup(content, dictionary []byte) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(2*MaxDictionary),
		zstd.WithEncoderDictRaw(dictionaryID, dictionary))
	if err != nil {
		return nil, err
	}
	return z.EncodeAll(content, nil), z.Close()
}

// GroupUnpacker unpacks groups, and keeps its memory from one to the next.
type GroupUnpacker struct {
	zstd                *zstd.Decoder
	dictionary, content []byte
}

// NewGroupUnpacker returns a GroupUnpacker that Close releases.
func NewGroupUnpacker() (*GroupUnpacker, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxGroup), zstd.WithDecodeAllCapLimit(true))
	return &GroupUnpacker{zstd: d, dictionary: make([]byte, MaxDictionary), content: make([]byte, MaxGroup)}, err
}

// Close releases the memory.
func (u *GroupUnpacker) Close() { u.zstd.Close() }

// Unpack returns the content of a group, of length bytes, which nothing has verified. It is valid until the next call.
func (u *GroupUnpacker) Unpack(g Group, stored []byte, old io.ReaderAt, length int64) ([]byte, error) {
	dictionary := u.dictionary[:g.BaseLength]
	if n, err := old.ReadAt(dictionary, g.Base); n < len(dictionary) {
		return nil, fmt.Errorf("read old slot at %d: %w", g.Base, err)
	}
	if err := u.zstd.ResetWithOptions(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary)); err != nil {
		return nil, err
	}
	content, err := u.zstd.DecodeAll(stored, u.content[:0:length])
	if err == nil && int64(len(content)) != length {
		err = fmt.Errorf("%d bytes, want %d", len(content), length)
	}
	return content, err
}
