package gpt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Write is one change of the disk. It must have reached the disk before the next one begins.
type Write struct {
	What  string // for people
	At    LBA
	Bytes []byte
}

// String is the line that a plan prints.
func (w Write) String() string {
	return fmt.Sprintf("write %s, %d bytes at sector %d", w.What, len(w.Bytes), w.At)
}

// Repair is the change of a disk's table. Without Writes there is nothing to do.
type Repair struct {
	Why    []string // for people
	Writes []Write
	Grown  *Entry // the partition that grows, with its new size; nil: none
}

// The size of a partition is a multiple of alignment, and less than leastGain is not worth a write.
const (
	alignment = 1 << 20
	leastGain = 8 << 20
)

// Plan plans how both copies of the table become intact, the second copy is moved to the end of the disk, and the
// partition named grow, if it is the last on the disk, gets all free space behind it. Plan is pure. After any number of
// its writes, the last of them torn, one copy is intact: no copy is written before the other is intact.
func Plan(t Table, grow string) (Repair, error) {
	var r Repair
	if t.First != nil {
		r.Why = append(r.Why, fmt.Sprintf("first copy: %v", t.First))
	}
	if t.Second != nil {
		r.Why = append(r.Why, fmt.Sprintf("second copy: %v", t.Second))
	}
	last := t.lastUsable()
	if err := t.checkRoom(last); err != nil {
		return Repair{}, fmt.Errorf("plan partition table: %w", err)
	}
	want := raw{header: bytes.Clone(t.good.header), entries: bytes.Clone(t.good.entries)}
	if e, found := t.growing(grow, last); found {
		r.Why = append(r.Why, fmt.Sprintf("%s can grow by %d MiB", e.Name,
			(uint64(e.Last-t.entry(e.Number).Last)*uint64(t.Sector))>>20))
		r.Grown = &e
		order.PutUint64(want.entries[(e.Number-1)*int(order.Uint32(want.header[atEntrySize:])):][40:], uint64(e.Last))
	}
	if len(r.Why) == 0 {
		return r, nil
	}
	order.PutUint64(want.header[atLastUsable:], uint64(last))
	end, have := t.Sectors-1, t.have
	r.add("size in the protective MBR", 0, t.protect(), t.mbr)
	if t.First != nil { // only the second is intact: it is copied before it is changed
		have[0] = raw{header: t.good.placed(1, end, t.firstEntries()), entries: t.good.entries}
		r.add("entries of the first copy", t.firstEntries(), have[0].entries, t.have[0].entries)
		r.add("header of the first copy", 1, have[0].header, t.have[0].header)
	}
	r.add("entries of the second copy", last+1, want.entries, have[1].entriesAt(last+1))
	r.add("header of the second copy", end, want.placed(end, 1, last+1), have[1].header)
	r.add("entries of the first copy", t.firstEntries(), want.entries, have[0].entries)
	r.add("header of the first copy", 1, want.placed(1, end, t.firstEntries()), have[0].header)
	return r, nil
}

// checkRoom refuses a table that does not fit its disk: no partition is ever made smaller.
func (t Table) checkRoom(last LBA) error {
	behind := t.firstEntries() + LBA(len(t.good.entries)/t.Sector)
	if behind > LBA(order.Uint64(t.good.header[atFirstUsable:])) {
		return errors.New("there is no room for the entries of the first copy")
	}
	for _, e := range t.Entries {
		if e.First < behind && e.Last >= t.firstEntries() {
			return fmt.Errorf("partition %d begins in sector %d, where the entries of the first copy belong", e.Number,
				e.First)
		}
		if e.Last > last || e.First > e.Last {
			return fmt.Errorf("partition %d lies in sectors %d to %d, the disk has room up to %d; write the image to "+
				"a larger disk", e.Number, e.First, e.Last, last)
		}
	}
	return nil
}

// firstEntries is the sector of the entries of the first copy. A few boards have them behind their bootloader.
func (t Table) firstEntries() LBA {
	if t.First == nil {
		return LBA(order.Uint64(t.good.header[atEntries:]))
	}
	return 2
}

func (t Table) entry(number int) Entry {
	for _, e := range t.Entries {
		if e.Number == number {
			return e
		}
	}
	return Entry{}
}

// lastUsable is the last sector before the second copy.
func (t Table) lastUsable() LBA { return t.Sectors - 2 - LBA(len(t.good.entries)/t.Sector) }

// growing finds the partition that can grow: only the last one on the disk has free space behind it.
func (t Table) growing(name string, last LBA) (Entry, bool) {
	var found Entry
	for _, e := range t.Entries {
		if e.Last > found.Last {
			found = e
		}
	}
	unit := LBA(max(1, alignment/t.Sector))
	end := (last+1)/unit*unit - 1
	if found.Name != name || name == "" || end <= found.Last || uint64(end-found.Last)*uint64(t.Sector) < leastGain {
		return Entry{}, false
	}
	found.Last = end
	return found, true
}

// entriesAt returns the content of the sectors from at on as this copy has it; nil if its entries are in another place.
func (r raw) entriesAt(at LBA) []byte {
	if r.entries == nil || LBA(order.Uint64(r.header[atEntries:])) != at {
		return nil
	}
	return r.entries
}

// placed returns the header of a copy for sector self.
func (r raw) placed(self, other, entries LBA) []byte {
	h := bytes.Clone(r.header)
	order.PutUint64(h[atSelf:], uint64(self))
	order.PutUint64(h[atOther:], uint64(other))
	order.PutUint64(h[atEntries:], uint64(entries))
	size := order.Uint32(h[atCount:]) * order.Uint32(h[atEntrySize:])
	order.PutUint32(h[atEntriesSum:], crc32.ChecksumIEEE(r.entries[:size]))
	order.PutUint32(h[atSum:], headerSum(h))
	return h
}

// protect returns the MBR with the size of the disk in it. An MBR that lists other partitions, or none, belongs to
// somebody else and is not changed.
func (t Table) protect() []byte {
	mbr := bytes.Clone(t.mbr)
	e := mbr[446:][:16]
	if e[4] != 0xee || !bytes.Equal(mbr[462:510], make([]byte, 48)) || order.Uint32(e[8:]) != 1 {
		return mbr
	}
	order.PutUint32(e[12:], uint32(min(t.Sectors-1, 0xffffffff)))
	return mbr
}

func (r *Repair) add(what string, at LBA, wanted, have []byte) {
	if !bytes.Equal(wanted, have) {
		r.Writes = append(r.Writes, Write{What: what, At: at, Bytes: wanted})
	}
}

// Disk is what Apply writes to. Sync returns when everything written has reached the disk.
type Disk interface {
	io.WriterAt
	Sync() error
}

// Apply carries a plan out. If it fails, one copy of the table is intact, and a new Plan completes the repair.
func (r Repair) Apply(disk Disk, sector int) error {
	for _, w := range r.Writes {
		_, err := disk.WriteAt(w.Bytes, int64(w.At)*int64(sector))
		if err := errors.Join(err, disk.Sync()); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}
