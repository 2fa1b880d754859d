package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// Identify fills in the UUIDs that the kernel did not tell (it does so in uevent only since about 6.14) from the partition tables
// of the disks, whose nodes lie below dev. It returns what went wrong, by disk: an unreadable one hides only its own.
func Identify(sysfs, dev string, all []Partition) error {
	tables := map[string]map[int]string{}
	var faults []error
	for i, p := range all {
		if p.UUID != "" {
			continue
		}
		table, read := tables[p.Disk]
		if !read {
			var err error
			if table, err = readTable(filepath.Join(sysfs, filepath.Dir(p.Path)), filepath.Join(dev, p.Disk)); err != nil {
				faults = append(faults, err)
			}
			tables[p.Disk] = table
		}
		all[i].UUID = table[p.Number]
	}
	return errors.Join(faults...)
}

func readTable(path, node string) (map[int]string, error) {
	sector := readNumber(filepath.Join(path, "queue/logical_block_size"))
	if sector < 512 || sector > 64*KiB {
		sector = 512
	}
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	defer f.Close() // nothing was written
	uuids, err := ReadUUIDs(f, sector, 512*readNumber(filepath.Join(path, "size")))
	if err != nil {
		return nil, fmt.Errorf("read partition table of %s: %w", node, err)
	}
	return uuids, nil
}

// ReadUUIDs reads the partition table of a disk of the given sector and whole size and returns the PARTUUID of each partition
// number, as the kernel would write them. A damaged GPT is read from its copy at the end of the disk.
func ReadUUIDs(disk io.ReaderAt, sector, size Bytes) (map[int]string, error) {
	mbr := make([]byte, 512)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return nil, err
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, errors.New("there is none")
	}
	if !protective(mbr) {
		return mbrUUIDs(mbr), nil
	}
	uuids, first := readGPT(disk, sector, sector)
	if first == nil {
		return uuids, nil
	}
	uuids, second := readGPT(disk, sector, size-sector)
	if second != nil {
		return nil, errors.Join(first, fmt.Errorf("copy: %w", second))
	}
	return uuids, nil
}

// protective reports whether the MBR only stands before a GPT: one of its four partitions has type 0xee (UEFI 2.10, section
// 5.2.3). It need not be the first: hybrid tables, as some boards need them, have others too.
func protective(mbr []byte) bool {
	for i := range 4 {
		if mbr[446+16*i+4] == 0xee {
			return true
		}
	}
	return false
}

// mbrUUIDs numbers the disk's signature, which is how the kernel names MBR partitions; logical ones are not told apart
// from missing ones here, which is harmless: only numbers that the kernel lists are looked up.
func mbrUUIDs(mbr []byte) map[int]string {
	signature := binary.LittleEndian.Uint32(mbr[440:])
	if signature == 0 {
		return nil
	}
	const most = 64
	uuids := make(map[int]string, most)
	for n := 1; n <= most; n++ {
		uuids[n] = fmt.Sprintf("%08x-%02x", signature, n)
	}
	return uuids
}

// readGPT reads the GPT header at the given place and its entries (UEFI 2.10, section 5.3.2):
//
//	 0 "EFI PART" | 12 header size u32 | 16 header crc u32 | 72 first entry's LBA u64 | 80 entries u32 | 84 entry size u32 | 88 entries' crc u32
//	entry: 0 type GUID | 16 unique GUID
func readGPT(disk io.ReaderAt, sector, at Bytes) (map[int]string, error) {
	header := make([]byte, 512)
	if _, err := disk.ReadAt(header, int64(at)); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[12:])
	if string(header[:8]) != "EFI PART" || size < 92 || size > 512 {
		return nil, errors.New("no GPT header")
	}
	sum := binary.LittleEndian.Uint32(header[16:])
	copy(header[16:20], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(header[:size]) != sum {
		return nil, errors.New("GPT header is corrupt")
	}
	count, entry := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	lba := binary.LittleEndian.Uint64(header[72:])
	if count > 1024 || entry < 128 || entry > 4096 || lba > uint64((1<<62)/sector) {
		return nil, fmt.Errorf("GPT has %d entries of %d bytes at sector %d", count, entry, lba)
	}
	entries := make([]byte, count*entry)
	if _, err := disk.ReadAt(entries, int64(lba)*int64(sector)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[88:]) {
		return nil, errors.New("GPT entries are corrupt")
	}
	uuids := map[int]string{}
	for n := range int(count) {
		e := entries[n*int(entry):]
		if [16]byte(e[:16]) != [16]byte{} {
			uuids[n+1] = guid(e[16:32])
		}
	}
	return uuids, nil
}

// guid writes a GUID in the usual form; its first three parts are little endian on disk.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}
