package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// SectorSize is the unit that a disk writes whole or not at all. Every position and length of a log counts in it.
const SectorSize = 512

// The write log is that of QEMU's blklogwrites driver (block/blklogwrites.c), which has the form of Linux'
// dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst). All numbers are little-endian, each part
// begins on a sector:
//
//	sector 0   u64 magic  u64 version  u64 entries  u32 sector size
//	entry      u64 sector  u64 sectors  u64 flags  u64 length    then, in the next sectors, the data
const (
	logMagic   = 0x6a736677736872
	logVersion = 1

	flagFlush   = 1
	FlagFUA     = 2
	flagDiscard = 4
	flagMark    = 8
)

// mostEntries bounds what a log may claim to hold.
const mostEntries = 10_000_000

// An Entry is one line of a log: a write, a flush, or a discard, which reads as zeros afterwards.
type Entry struct {
	Sector  int64
	Sectors int64
	Flush   bool // all writes before it are on the disk
	FUA     bool // this write is on the disk at once
	Discard bool
	at      int64 // of the data in the log
}

// writes says whether the entry changes the disk.
func (e Entry) writes() bool { return e.Sectors > 0 }

// A Log is the record of all writes to a disk, in the order in which the disk took them.
type Log struct {
	Entries []Entry
	data    io.ReaderAt
	close   func() error
}

// OpenLog reads the index of a write log. The data stays in the file; Close closes it. A log that ends in the middle of
// an entry, as that of a killed QEMU may, is used up to there.
func OpenLog(name string) (*Log, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open write log: %w", err)
	}
	stat, err := f.Stat()
	if err == nil {
		var l *Log
		if l, err = ReadLog(f, stat.Size()); err == nil {
			l.close = f.Close
			return l, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("read write log %s: %w", name, err), f.Close())
}

// ReadLog reads the index of a log of so many bytes.
func ReadLog(r io.ReaderAt, size int64) (*Log, error) {
	count, err := readCount(r)
	if err != nil {
		return nil, err
	}
	l := &Log{data: r, close: func() error { return nil }}
	head := make([]byte, 32)
	for at := int64(SectorSize); int64(len(l.Entries)) < count && at+SectorSize <= size; {
		if _, err := r.ReadAt(head, at); err != nil {
			return nil, err
		}
		at += SectorSize
		e, length, err := parseEntry(head)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(l.Entries), err)
		}
		if length > size-at {
			break
		}
		e.at = at
		at += length
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// readCount reads the head of a log and returns the number of its entries.
func readCount(r io.ReaderAt) (int64, error) {
	head := make([]byte, 28)
	if _, err := r.ReadAt(head, 0); err != nil {
		return 0, fmt.Errorf("head: %w", err)
	}
	if magic := binary.LittleEndian.Uint64(head); magic != logMagic {
		return 0, fmt.Errorf("head: magic %#x, want %#x: this is no write log", magic, uint64(logMagic))
	}
	if v := binary.LittleEndian.Uint64(head[8:]); v != logVersion {
		return 0, fmt.Errorf("head: version %d, want %d", v, logVersion)
	}
	if s := binary.LittleEndian.Uint32(head[24:]); s != SectorSize {
		return 0, fmt.Errorf("head: sectors of %d bytes, want %d: record with log-sector-size=512", s, SectorSize)
	}
	count := binary.LittleEndian.Uint64(head[16:])
	if count > mostEntries {
		return 0, fmt.Errorf("head: %d entries, at most %d are read", count, mostEntries)
	}
	return int64(count), nil
}

// MostSector bounds positions, so that no sum of them overflows: 2^53 bytes is more than ext4 and GPT have on 4 KiB
// blocks.
const MostSector = 1 << 44

func parseEntry(head []byte) (e Entry, length int64, err error) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(head[8*i:]) }
	sector, sectors, flags, data := word(0), word(1), word(2), word(3)
	if sector > MostSector || sectors > MostSector || data > MostSector {
		return e, 0, fmt.Errorf("sector %d, %d sectors, %d bytes: out of any disk", sector, sectors, data)
	}
	e = Entry{
		Sector: int64(sector), Sectors: int64(sectors),
		Flush: flags&flagFlush != 0, FUA: flags&FlagFUA != 0, Discard: flags&flagDiscard != 0,
	}
	switch {
	case flags&^(flagFlush|FlagFUA|flagDiscard|flagMark) != 0:
		return e, 0, fmt.Errorf("flags %#x are not known", flags)
	case flags&flagMark != 0:
		e.Sectors = 0
	case e.Discard:
		data = 0
	default:
		data = sectors * SectorSize // the length is kept for marks only
	}
	return e, int64(data+SectorSize-1) / SectorSize * SectorSize, nil
}

// Data returns what an entry writes.
func (l *Log) Data(e Entry) ([]byte, error) {
	data := make([]byte, e.Sectors*SectorSize)
	if e.Discard {
		return data, nil
	}
	if _, err := l.data.ReadAt(data, e.at); err != nil {
		return nil, fmt.Errorf("read write log at byte %d: %w", e.at, err)
	}
	return data, nil
}

// Close closes the file of the log.
func (l *Log) Close() error { return l.close() }

// An Epoch is what a disk may have done between two flushes: any part of it, in any order.
type Epoch struct {
	First  int   // entry after the flush that it follows
	Writes []int // entries that write, in their order
	End    int   // entry of the flush that ends it, or the length of the log
}

// Epochs cuts a log at its flushes. Flushes of nothing end no epoch.
func (l *Log) Epochs() []Epoch {
	var all []Epoch
	one := Epoch{}
	end := func(at, next int) {
		if one.End = at; len(one.Writes) > 0 {
			all = append(all, one)
		}
		one = Epoch{First: next}
	}
	for i, e := range l.Entries {
		switch {
		case e.Flush && !e.writes():
			end(i, i+1)
		case e.Flush: // with data, which is written after the flush of what was before
			end(i, i)
		}
		if e.writes() {
			one.Writes = append(one.Writes, i)
		}
	}
	end(len(l.Entries), 0)
	return all
}
