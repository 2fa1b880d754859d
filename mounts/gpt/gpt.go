// Package gpt owns GUID partition tables. It reads both copies, and plans and applies the writes that repair a damaged
// or misplaced copy and let the last partition grow to the end of the disk.
//
// It never changes a partition other than the one that is to grow, never moves a partition, and never leaves the disk
// without an intact table: the second copy is complete before the first is written. Read Table first, then Plan.
//
//	sector   0  protective MBR                        UEFI 2.10, section 5.2.3
//	         1  header: the first copy                section 5.3.2
//	         2  its entries, 128 bytes each           section 5.3.3
//	            partitions
//	  last - n  entries of the second copy
//	      last  its header
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// LBA is a sector number or a count of sectors. The size of a sector depends on the disk.
type LBA uint64

// Entry is one partition.
type Entry struct {
	Number      int    // from 1
	GUID        string // the partition's own GUID: its PARTUUID
	Name        string // its label
	First, Last LBA
}

// Table is the partition table of a disk, read from both copies.
type Table struct {
	Sector  int // bytes in a sector
	Sectors LBA // of the whole disk
	Entries []Entry

	// First and Second are the fault of each copy, or nil. The second copy must end in the disk's last sector.
	First, Second error

	mbr  []byte
	have [2]raw // the two copies as they are on the disk
	good raw    // the copy that counts: the first, if it is intact
}

// raw is one copy as it is on the disk.
type raw struct {
	header  []byte // one sector
	entries []byte // whole sectors
}

// The offsets of the fields of a header.
const (
	atSize, atSum, atSelf, atOther, atFirstUsable, atLastUsable = 12, 16, 24, 32, 40, 48
	atEntries, atCount, atEntrySize, atEntriesSum               = 72, 80, 84, 88
	headerSize                                                  = 92
)

var order = binary.LittleEndian

// ErrNone reports a disk whose table is not a GPT.
var ErrNone = errors.New("no GUID partition table")

// Read reads both copies of a disk's table. As the kernel does, it uses the first copy unless that is damaged. The
// error wraps ErrNone if neither the MBR nor a header indicates a GPT.
func Read(disk io.ReaderAt, sector int, sectors LBA) (Table, error) {
	t := Table{Sector: sector, Sectors: sectors}
	if sector < 512 || sector > 64<<10 || sectors < 8 || sectors > 1<<62/LBA(sector) {
		return t, fmt.Errorf("read partition table: a disk of %d sectors of %d bytes", sectors, sector)
	}
	t.mbr = make([]byte, sector)
	if _, err := disk.ReadAt(t.mbr, 0); err != nil {
		return t, fmt.Errorf("read partition table: %w", err)
	}
	t.have[0], t.First = readCopy(disk, sector, 1, sectors)
	t.have[1], t.Second = readCopy(disk, sector, sectors-1, sectors)
	switch {
	case t.First == nil:
		t.good = t.have[0]
	case t.Second == nil:
		t.good = t.have[1]
	case !protective(t.mbr):
		return t, fmt.Errorf("read partition table: %w", ErrNone)
	default:
		return t, fmt.Errorf("read partition table: both copies are damaged: %w", errors.Join(t.First, t.Second))
	}
	if t.First == nil && t.Second == nil && !same(t.have) {
		t.Second = errors.New("it differs from the first")
	}
	if t.First == nil && LBA(order.Uint64(t.good.header[atOther:])) != sectors-1 {
		t.Second = errors.Join(t.Second, fmt.Errorf("it is expected in sector %d, not in the last",
			order.Uint64(t.good.header[atOther:])))
	}
	t.Entries = t.good.list()
	return t, nil
}

// protective reports whether the MBR is the protective MBR of a GPT: one of its four partitions has type 0xee. It need
// not be the first one: some boards need hybrid tables, which list other partitions too.
func protective(mbr []byte) bool {
	for i := range 4 {
		if mbr[446+16*i+4] == 0xee {
			return mbr[510] == 0x55 && mbr[511] == 0xaa
		}
	}
	return false
}

// readCopy reads the header in the given sector and its entries. With an error it returns what it could read.
func readCopy(disk io.ReaderAt, sector int, at, sectors LBA) (raw, error) {
	r := raw{header: make([]byte, sector)}
	if _, err := disk.ReadAt(r.header, int64(at)*int64(sector)); err != nil {
		return r, err
	}
	if err := checkHeader(r.header, at, sectors); err != nil {
		return r, err
	}
	count, size := int(order.Uint32(r.header[atCount:])), int(order.Uint32(r.header[atEntrySize:]))
	r.entries = make([]byte, (count*size+sector-1)/sector*sector)
	if _, err := disk.ReadAt(r.entries, int64(order.Uint64(r.header[atEntries:]))*int64(sector)); err != nil {
		return r, err
	}
	if crc32.ChecksumIEEE(r.entries[:count*size]) != order.Uint32(r.header[atEntriesSum:]) {
		return r, errors.New("GPT entries are corrupt")
	}
	return r, nil
}

func checkHeader(h []byte, at, sectors LBA) error {
	size := order.Uint32(h[atSize:])
	if string(h[:8]) != "EFI PART" || size < headerSize || int(size) > len(h) {
		return errors.New("no GPT header")
	}
	sum := headerSum(h)
	count, entry, lba := order.Uint32(h[atCount:]), order.Uint32(h[atEntrySize:]), LBA(order.Uint64(h[atEntries:]))
	switch {
	case sum != order.Uint32(h[atSum:]):
		return errors.New("GPT header is corrupt")
	case LBA(order.Uint64(h[atSelf:])) != at:
		return fmt.Errorf("GPT header in sector %d says it lies in %d", at, order.Uint64(h[atSelf:]))
	case count == 0 || count > 1024 || entry < 128 || entry > 4096 || entry%128 != 0 || lba < 2 || lba >= sectors:
		return fmt.Errorf("GPT has %d entries of %d bytes at sector %d", count, entry, lba)
	}
	return nil
}

// headerSum is the checksum that a header should have.
func headerSum(h []byte) uint32 {
	blank := bytes.Clone(h[:order.Uint32(h[atSize:])])
	order.PutUint32(blank[atSum:], 0)
	return crc32.ChecksumIEEE(blank)
}

// same reports whether two copies list the same partitions.
func same(have [2]raw) bool {
	a, b := have[0].header, have[1].header
	return bytes.Equal(have[0].entries, have[1].entries) && bytes.Equal(a[atFirstUsable:atEntries],
		b[atFirstUsable:atEntries])
}

func (r raw) list() []Entry {
	size := int(order.Uint32(r.header[atEntrySize:]))
	var all []Entry
	for n := range int(order.Uint32(r.header[atCount:])) {
		e := r.entries[n*size:][:size]
		if [16]byte(e[:16]) == [16]byte{} {
			continue // the type of an entry that is not in use
		}
		all = append(all, Entry{
			Number: n + 1, GUID: guid(e[16:32]), Name: name(e[56:128]), First: LBA(order.Uint64(e[32:])),
			Last: LBA(order.Uint64(e[40:])),
		})
	}
	return all
}

// name decodes UTF-16, which ends at a zero.
func name(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		u := order.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return strings.ToValidUTF8(string(utf16.Decode(units)), "?")
}

// guid writes a GUID in the usual form; its first three parts are little endian on disk.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", order.Uint32(b), order.Uint16(b[4:]), order.Uint16(b[6:]), b[8:10],
		b[10:16])
}
