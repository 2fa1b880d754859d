// Package chunk owns the bytes of one chunk of the log, in RAM or on disk: their format, and how they are written,
// compressed and read. It knows no other chunk and no directory (packages ring and archive do). Read the drawing at
// the top of format.go first, then Scan and Growth.
package chunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

// A chunk file, all numbers little endian:
//
//	 0  magic "RESLOG2\n"; the digit is the version of the format
//	 8  codec, 1 byte: 0 plain, records follow; 1 packed, frames follow; 2 grown, frames follow and more may come
//	 9  zero, 7 bytes
//	16  seq of the first entry, 8 bytes
//	24  boot id, 16 bytes
//	40  wall clock at the chunk's start, µs since 1970, 8 bytes
//	48  time since the kernel started at the chunk's start, µs, 8 bytes
//	56  number of entries, 4 bytes: 0 in a plain or grown chunk, which may get more
//	60  crc32c of bytes 0-59, 4 bytes
//	64  records: length of the payload, 4 bytes; crc32c of the payload, 4 bytes; payload
//	 or frames: length of the records in it, 4 bytes; length when deflated, 4 bytes; crc32c of what follows, 4 bytes;
//	    the deflated (RFC 1951) records, whose heads are here only the length of the payload, as a varint
//
// A payload begins with its kind. 1, source: id, cursor, then kind, name and stream, each with its length before it,
// then pid and the count of dropped lines; a chunk begins with all sources that the writer follows, so the newest chunk
// alone holds every cursor, and a source told again replaces what was told before. 2, entry: source id, boottime -
// chunk's (signed), wall offset - chunk's (signed; the offset is wall - boottime), one byte of priority | cut<<3 |
// report<<4, pid, cursor - last cursor of the source (modulo 2^64), and the message up to the end. Numbers in payloads
// are varints, times µs.
//
// Records and frames are valid up to the first one that is cut short or has a wrong checksum; nothing after it counts.
const (
	magic      = "RESLOG2\n"
	HeaderSize = 64

	CodecPlain  = 0
	CodecPacked = 1
	codecGrown  = 2 // never in the ring

	recordHead = 8
	maxPayload = entry.MaxMessage + 1024 // a source of two long names, or an entry with its numbers

	kindSource = 1
	kindEntry  = 2

	cutFlag    = 1 << 3
	reportFlag = 1 << 4 // the entry tells of the source's dropped lines: their count is 0 again
)

var (
	errShort   = errors.New("record is cut short")
	ErrCorrupt = errors.New("record is corrupt")
)

// Header is the decoded start of a chunk.
type Header struct {
	Codec    byte
	Entries  uint32 // of a packed chunk
	First    uint64
	Boot     [16]byte
	Wall     int64 // µs
	Boottime int64 // µs
}

// Append appends the bytes of h to b.
func (h Header) Append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, h.Codec, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.First)
	b = append(b, h.Boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Wall))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Boottime))
	b = binary.LittleEndian.AppendUint32(b, h.Entries)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

// ParseHeader is the reverse of Append. The error says that b does not begin a chunk.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || string(b[:len(magic)]) != magic {
		return Header{}, errors.New("parse log chunk: not a log chunk")
	}
	if checksum(b[:HeaderSize-4]) != binary.LittleEndian.Uint32(b[HeaderSize-4:]) {
		return Header{}, errors.New("parse log chunk: header is corrupt")
	}
	if b[8] > codecGrown {
		return Header{}, fmt.Errorf("parse log chunk: codec %d is unknown", b[8])
	}
	h := Header{
		Codec: b[8], Entries: binary.LittleEndian.Uint32(b[56:]),
		First:    binary.LittleEndian.Uint64(b[16:]),
		Wall:     int64(binary.LittleEndian.Uint64(b[40:])),
		Boottime: int64(binary.LittleEndian.Uint64(b[48:])),
	}
	copy(h.Boot[:], b[24:])
	return h, nil
}

// appendRecord appends a record whose payload is written by fill.
func appendRecord(b []byte, fill func([]byte) []byte) []byte {
	start := len(b)
	b = fill(append(b, make([]byte, recordHead)...))
	payload := b[start+recordHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], checksum(payload))
	return b
}

// nextPayload returns the payload of the record that b begins with, and the record's size.
func nextPayload(b []byte) ([]byte, int, error) {
	if len(b) < recordHead {
		return nil, 0, errShort
	}
	n := binary.LittleEndian.Uint32(b)
	if n == 0 || n > maxPayload {
		return nil, 0, ErrCorrupt
	}
	end := recordHead + int(n)
	if len(b) < end {
		return nil, 0, errShort
	}
	if checksum(b[recordHead:end]) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, ErrCorrupt
	}
	return b[recordHead:end], end, nil
}

// A Decoder turns the payloads of one chunk, in order, into entries.
type Decoder struct {
	Header  Header
	boot    string
	Seq     uint64
	Sources map[uint64]*Source
}

// Source is what encoder and decoder know of one source.
type Source struct {
	pipe.Source
	Mark
	ID uint64
}

// NewDecoder returns a decoder of the payloads of a chunk that begins with h.
func NewDecoder(h Header) *Decoder {
	return &Decoder{Header: h, boot: BootString(h.Boot), Seq: h.First, Sources: map[uint64]*Source{}}
}

// Decode reads one payload. It reports an entry if the payload is one; the entry's message is returned apart, as part
// of payload, so that the caller decides whether to copy it.
func (d *Decoder) Decode(payload []byte, e *entry.Entry) (message []byte, isEntry bool, err error) {
	f := fields{rest: payload[1:]}
	switch payload[0] {
	case kindSource:
		s := &Source{ID: f.uint()}
		s.Cursor = int64(f.uint())
		s.Kind, s.Name, s.Stream = f.text(), f.text(), f.text()
		s.PID, s.Dropped = int(f.uint()), f.uint()
		if f.bad {
			return nil, false, ErrCorrupt
		}
		d.Sources[s.ID] = s
		return nil, false, nil
	case kindEntry:
		return d.entry(&f, e)
	}
	return nil, false, nil // a newer writer's record
}

func (d *Decoder) entry(f *fields, e *entry.Entry) ([]byte, bool, error) {
	s := d.Sources[f.uint()]
	boottime := d.Header.Boottime + f.int()
	wall := boottime + (d.Header.Wall - d.Header.Boottime) + f.int()
	flags := f.byte()
	pid := f.uint()
	step := f.uint()
	if s == nil || f.bad {
		return nil, false, ErrCorrupt
	}
	s.Cursor += int64(step)
	if flags&reportFlag != 0 {
		s.Dropped = 0
	}
	*e = entry.Entry{
		Seq: d.Seq, Boot: d.boot, Time: time.UnixMicro(wall), Boottime: time.Duration(boottime) * time.Microsecond,
		Kind: s.Kind, Name: s.Name, Stream: s.Stream, Priority: int(flags & 7), Cut: flags&cutFlag != 0, PID: int(pid),
	}
	d.Seq++
	return f.rest, true, nil
}

// AppendSource appends the record that tells of s.
func AppendSource(b []byte, s *Source) []byte {
	return appendRecord(b, func(b []byte) []byte {
		b = binary.AppendUvarint(append(b, kindSource), s.ID)
		b = binary.AppendUvarint(b, uint64(s.Cursor))
		for _, text := range []string{s.Kind, s.Name, s.Stream} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
		b = binary.AppendUvarint(b, uint64(s.PID))
		return binary.AppendUvarint(b, s.Dropped)
	})
}

// AppendEntry appends the record of an entry of s whose cursor is step beyond that of the entry before. A report
// tells of dropped lines.
func AppendEntry(b []byte, h Header, s *Source, e *entry.Entry, message []byte, step uint64, report bool) []byte {
	boottime := e.Boottime.Microseconds()
	flags := byte(e.Priority & 7)
	if e.Cut {
		flags |= cutFlag
	}
	if report {
		flags |= reportFlag
	}
	return appendRecord(b, func(b []byte) []byte {
		b = binary.AppendUvarint(append(b, kindEntry), s.ID)
		b = binary.AppendVarint(b, boottime-h.Boottime)
		b = binary.AppendVarint(b, e.Time.UnixMicro()-boottime-(h.Wall-h.Boottime))
		b = binary.AppendUvarint(append(b, flags), uint64(e.PID))
		b = binary.AppendUvarint(b, step)
		return append(b, message...)
	})
}

// fields reads the numbers and texts of a payload; bad stays set once something did not fit.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.rest)
	f.skip(n)
	return v
}

func (f *fields) int() int64 {
	v, n := binary.Varint(f.rest)
	f.skip(n)
	return v
}

func (f *fields) skip(n int) {
	if n <= 0 {
		f.bad = true
		return
	}
	f.rest = f.rest[n:]
}

func (f *fields) byte() byte {
	if len(f.rest) == 0 {
		f.bad = true
		return 0
	}
	c := f.rest[0]
	f.rest = f.rest[1:]
	return c
}

func (f *fields) text() string {
	n := f.uint()
	if n > uint64(len(f.rest)) {
		f.bad = true
		return ""
	}
	s := string(f.rest[:n])
	f.rest = f.rest[n:]
	return s
}

// checksum is crc32c, which amd64 and arm64 have an instruction for.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// BootString returns a boot id as the kernel writes it.
func BootString(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// A Mark is what the ring keeps of a source besides its entries, each value as of the last commit.
type Mark struct {
	Cursor  int64  // up to where the source was taken in, in the caller's own count
	PID     int    // of the writer of the lines that follow, 0 when unknown
	Dropped uint64 // lines that were dropped since the last Report
}
