package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// The layouts below are those of the UEFI specification 2.10, §5 (GPT), and of the PC's master boot record.
const (
	gptHeaderSize  = 92
	gptSignature   = "EFI PART"
	gptEntrySize   = 128
	gptEntriesMost = 256
	mbrSignatureAt = 0x1b8
	mbrEntriesAt   = 0x1be
	mbrMagicAt     = 510
)

// Identify fills in the UUIDs that sysfs left out: a kernel before 6.14 does not tell PARTUUID there, so they are read
// from each disk's partition table. A disk that cannot be read keeps empty UUIDs: it may be a card reader without a card.
func Identify(all []Partition, open func(disk string) (io.ReaderAt, error)) {
	tables := map[string]map[int]string{}
	for i, p := range all {
		if p.UUID != "" {
			continue
		}
		uuids, known := tables[p.Disk]
		if !known {
			uuids = readTable(p.Disk, open)
			tables[p.Disk] = uuids
		}
		all[i].UUID = uuids[p.Number]
	}
}

func readTable(disk string, open func(disk string) (io.ReaderAt, error)) map[int]string {
	r, err := open(disk)
	if err != nil {
		return nil
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	uuids, err := TableUUIDs(r)
	if err != nil {
		return nil
	}
	return uuids
}

// TableUUIDs reads the partition table of a disk, GPT or MBR, and returns the PARTUUID of each partition by number,
// written as the kernel writes them: lower case, for MBR the disk signature and the number.
func TableUUIDs(r io.ReaderAt) (map[int]string, error) {
	for _, sector := range []int64{512, 4096} {
		header := make([]byte, gptHeaderSize)
		if _, err := r.ReadAt(header, sector); err != nil {
			return nil, fmt.Errorf("read partition table: %w", err)
		}
		if string(header[:8]) == gptSignature && gptHeaderOK(header) {
			return gptUUIDs(r, header, sector)
		}
	}
	return mbrUUIDs(r)
}

func gptHeaderOK(header []byte) bool {
	if binary.LittleEndian.Uint32(header[12:]) != gptHeaderSize {
		return false // newer revisions may be longer, none has been made since 2006
	}
	want := binary.LittleEndian.Uint32(header[16:])
	blank := bytes.Clone(header)
	clear(blank[16:20])
	return crc32.ChecksumIEEE(blank) == want
}

func gptUUIDs(r io.ReaderAt, header []byte, sector int64) (map[int]string, error) {
	first := int64(binary.LittleEndian.Uint64(header[72:]))
	count := binary.LittleEndian.Uint32(header[80:])
	size := binary.LittleEndian.Uint32(header[84:])
	if size != gptEntrySize || count > gptEntriesMost || first < 2 || first > 1<<40 {
		return nil, fmt.Errorf("read partition table: %d entries of %d bytes at sector %d", count, size, first)
	}
	entries := make([]byte, count*size)
	if _, err := r.ReadAt(entries, first*sector); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	uuids := map[int]string{}
	for i := range int(count) {
		entry := entries[i*gptEntrySize:]
		if unused := make([]byte, 16); !bytes.Equal(entry[:16], unused) {
			uuids[i+1] = guidText(entry[16:32])
		}
	}
	return uuids, nil
}

// guidText writes a GUID as people do: the first three fields lie in the table with their lowest byte first.
func guidText(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// mbrUUIDs knows the four primary partitions, and numbers the logical ones as far as our layout has them.
func mbrUUIDs(r io.ReaderAt) (map[int]string, error) {
	sector := make([]byte, 512)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	if sector[mbrMagicAt] != 0x55 || sector[mbrMagicAt+1] != 0xaa {
		return nil, fmt.Errorf("read partition table: neither GPT nor MBR")
	}
	signature := binary.LittleEndian.Uint32(sector[mbrSignatureAt:])
	uuids := map[int]string{}
	for i := range 6 {
		if logical := i >= 4; logical || sector[mbrEntriesAt+i*16+4] != 0 {
			uuids[i+1] = fmt.Sprintf("%08x-%02x", signature, i+1)
		}
	}
	return uuids, nil
}
