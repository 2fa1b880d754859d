package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"resinos/mounts/gpt"
)

// Identify reads the UUIDs that the kernel does not report (it does so in uevent only since about 6.14) from the
// partition tables of the disks, whose nodes are below dev. It returns the faults of all disks; an unreadable disk
// affects only its own partitions.
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
			sector, size := Geometry(sysfs, p)
			if table, err = readTable(filepath.Join(dev, p.Disk), sector, size); err != nil {
				faults = append(faults, err)
			}
			tables[p.Disk] = table
		}
		all[i].UUID = table[p.Number]
	}
	return errors.Join(faults...)
}

func readTable(node string, sector, size Bytes) (map[int]string, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	defer f.Close() // nothing was written
	uuids, err := ReadUUIDs(f, sector, size)
	if err != nil {
		return nil, fmt.Errorf("read partition table of %s: %w", node, err)
	}
	return uuids, nil
}

// ReadUUIDs reads the partition table of a disk with the given sector size and total size, and returns the PARTUUID of
// each partition number as the kernel writes it. If a GPT is damaged, its second copy is used.
func ReadUUIDs(disk io.ReaderAt, sector, size Bytes) (map[int]string, error) {
	mbr := make([]byte, 512)
	if _, err := disk.ReadAt(mbr, 0); err != nil {
		return nil, err
	}
	table, err := gpt.Read(disk, int(sector), gpt.LBA(size/sector))
	switch {
	case err == nil:
		uuids := make(map[int]string, len(table.Entries))
		for _, e := range table.Entries {
			uuids[e.Number] = e.GUID
		}
		return uuids, nil
	case !errors.Is(err, gpt.ErrNone):
		return nil, err
	case mbr[510] != 0x55 || mbr[511] != 0xaa:
		return nil, errors.New("there is no partition table")
	}
	return mbrUUIDs(mbr), nil
}

// mbrUUIDs derives the UUIDs from the signature of the disk, as the kernel does for MBR partitions. It also lists
// logical partitions that do not exist, which does no harm: only numbers that the kernel lists are looked up.
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
