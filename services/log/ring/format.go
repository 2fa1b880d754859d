package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"resinos/services/log/pipe"
)

// A chunk file, all numbers little endian:
//
//	 0  magic "RESLOG2\n"; the digit is the version of the format
//	 8  codec, 1 byte: 0 plain, records follow; 1 packed, frames follow; 2 grown, frames follow and more may be appended
//	 9  zero, 7 bytes
//	16  seq of the first entry, 8 bytes
//	24  boot id, 16 bytes
//	40  wall clock at the chunk's start, µs since 1970, 8 bytes
//	48  time since the kernel started at the chunk's start, µs, 8 bytes
//	56  number of entries, 4 bytes: 0 in a plain or grown chunk, which may get more
//	60  crc32c of bytes 0-59, 4 bytes
//	64  records: length of the payload, 4 bytes; crc32c of the payload, 4 bytes; payload
//	 or frames: length of the records in it, 4 bytes; length when deflated, 4 bytes; crc32c of what follows, 4 bytes; the
//	    deflated (RFC 1951) records, whose heads are here only the length of the payload, as a varint
//
// A payload begins with its kind. 1, source: id, cursor, then kind, name and stream, each with its length before it, then
// pid and the count of dropped lines; a chunk begins with all sources that the writer follows, so the newest chunk
// alone holds every cursor, and a source told again replaces what was told before. 2, entry: source id, boottime -
// chunk's (signed), wall offset - chunk's (signed; the offset is wall - boottime), one byte of priority | cut<<3 |
// report<<4, pid, cursor - last cursor of the source (modulo 2^64), and the message up to the end. Numbers in payloads
// are varints, times µs.
//
// Records and frames are valid up to the first one that is cut short or has a wrong checksum; nothing after it counts.
const (
	magic      = "RESLOG2\n"
	headerSize = 64

	codecPlain  = 0
	codecPacked = 1
	codecGrown  = 2 // never in the ring

	recordHead = 8
	maxPayload = MaxMessage + 1024 // a source of two long names, or an entry with its numbers

	kindSource = 1
	kindEntry  = 2

	cutFlag    = 1 << 3
	reportFlag = 1 << 4 // the entry tells of the source's dropped lines: their count is 0 again
)

var (
	errShort   = errors.New("record is cut short")
	errCorrupt = errors.New("record is corrupt")
)

// header is the decoded start of a chunk.
type header struct {
	codec    byte
	entries  uint32 // of a packed chunk
	first    uint64
	boot     [16]byte
	wall     int64 // µs
	boottime int64 // µs
}

func (h header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, h.codec, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = append(b, h.boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.wall))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.boottime))
	b = binary.LittleEndian.AppendUint32(b, h.entries)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return header{}, errors.New("parse log chunk: not a log chunk")
	}
	if checksum(b[:headerSize-4]) != binary.LittleEndian.Uint32(b[headerSize-4:]) {
		return header{}, errors.New("parse log chunk: header is corrupt")
	}
	if b[8] > codecGrown {
		return header{}, fmt.Errorf("parse log chunk: codec %d is unknown", b[8])
	}
	h := header{
		codec: b[8], entries: binary.LittleEndian.Uint32(b[56:]),
		first:    binary.LittleEndian.Uint64(b[16:]),
		wall:     int64(binary.LittleEndian.Uint64(b[40:])),
		boottime: int64(binary.LittleEndian.Uint64(b[48:])),
	}
	copy(h.boot[:], b[24:])
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
		return nil, 0, errCorrupt
	}
	end := recordHead + int(n)
	if len(b) < end {
		return nil, 0, errShort
	}
	if checksum(b[recordHead:end]) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, 0, errCorrupt
	}
	return b[recordHead:end], end, nil
}

// A decoder turns the payloads of one chunk, in order, into entries.
type decoder struct {
	header  header
	boot    string
	seq     uint64
	sources map[uint64]*source
}

// source is what encoder and decoder know of one source.
type source struct {
	pipe.Source
	Mark
	id uint64
}

func newDecoder(h header) *decoder {
	return &decoder{header: h, boot: bootString(h.boot), seq: h.first, sources: map[uint64]*source{}}
}

// decode reads one payload. It reports an entry if the payload is one; the entry's message is returned apart, as part
// of payload, so that the caller decides whether to copy it.
func (d *decoder) decode(payload []byte, e *Entry) (message []byte, isEntry bool, err error) {
	f := fields{rest: payload[1:]}
	switch payload[0] {
	case kindSource:
		s := &source{id: f.uint()}
		s.Cursor = int64(f.uint())
		s.Kind, s.Name, s.Stream = f.text(), f.text(), f.text()
		s.PID, s.Dropped = int(f.uint()), f.uint()
		if f.bad {
			return nil, false, errCorrupt
		}
		d.sources[s.id] = s
		return nil, false, nil
	case kindEntry:
		return d.entry(&f, e)
	}
	return nil, false, nil // a newer writer's record
}

func (d *decoder) entry(f *fields, e *Entry) ([]byte, bool, error) {
	s := d.sources[f.uint()]
	boottime := d.header.boottime + f.int()
	wall := boottime + (d.header.wall - d.header.boottime) + f.int()
	flags := f.byte()
	pid := f.uint()
	step := f.uint()
	if s == nil || f.bad {
		return nil, false, errCorrupt
	}
	s.Cursor += int64(step)
	if flags&reportFlag != 0 {
		s.Dropped = 0
	}
	*e = Entry{
		Seq: d.seq, Boot: d.boot, Time: time.UnixMicro(wall), Boottime: time.Duration(boottime) * time.Microsecond,
		Kind: s.Kind, Name: s.Name, Stream: s.Stream, Priority: int(flags & 7), Cut: flags&cutFlag != 0, PID: int(pid),
	}
	d.seq++
	return f.rest, true, nil
}

func appendSource(b []byte, s *source) []byte {
	return appendRecord(b, func(b []byte) []byte {
		b = binary.AppendUvarint(append(b, kindSource), s.id)
		b = binary.AppendUvarint(b, uint64(s.Cursor))
		for _, text := range []string{s.Kind, s.Name, s.Stream} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
		b = binary.AppendUvarint(b, uint64(s.PID))
		return binary.AppendUvarint(b, s.Dropped)
	})
}

func appendEntry(b []byte, h header, s *source, e *Entry, message []byte, step uint64, report bool) []byte {
	boottime := e.Boottime.Microseconds()
	flags := byte(e.Priority & 7)
	if e.Cut {
		flags |= cutFlag
	}
	if report {
		flags |= reportFlag
	}
	return appendRecord(b, func(b []byte) []byte {
		b = binary.AppendUvarint(append(b, kindEntry), s.id)
		b = binary.AppendVarint(b, boottime-h.boottime)
		b = binary.AppendVarint(b, e.Time.UnixMicro()-boottime-(h.wall-h.boottime))
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

func bootString(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
