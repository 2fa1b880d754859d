// Package recordingtest writes logs of disk writes in QEMU's form, for tests. Read Line first.
package recordingtest

import (
	"bytes"
	"encoding/binary"
)

// What QEMU writes, stated here once more so that the reader is not tested against itself.
const sectorBytes = 512

// A Line is one entry of a log that a test writes.
type Line struct {
	flags  uint64
	sector int64
	data   []byte
}

// Flush is a flush without data.
func Flush() Line { return Line{flags: 1} }

// At writes one sector for each byte of content, from a sector on.
func At(sector int64, content string) Line { return Line{sector: sector, data: fill(content)} }

// Flagged is l with more flags.
func (l Line) Flagged(flags uint64) Line { l.flags |= flags; return l }

// Discard discards sectors, which read as zeros afterwards.
func Discard(sector, sectors int64) Line {
	return Line{4, sector, make([]byte, sectors*sectorBytes)}
}

func fill(text string) (sectors []byte) {
	for i := range len(text) {
		sectors = append(sectors, bytes.Repeat([]byte{text[i]}, sectorBytes)...)
	}
	return sectors
}

// Put64 writes numbers of 64 bits one after another.
func Put64(b []byte, values ...uint64) {
	for i, v := range values {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
}

// Encode writes a log in QEMU's form.
func Encode(lines []Line) []byte {
	head := make([]byte, sectorBytes)
	Put64(head, 0x6a736677736872, 1, uint64(len(lines)), sectorBytes)
	for _, l := range lines {
		entry := make([]byte, sectorBytes)
		Put64(entry, uint64(l.sector), uint64(len(l.data)/sectorBytes), l.flags)
		head = append(head, entry...)
		if l.flags&4 == 0 {
			head = append(head, l.data...)
		}
	}
	return head
}
