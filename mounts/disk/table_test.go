package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"testing"
)

// gptDisk is a disk with one GPT entry, number 2, in sectors of the given size.
func gptDisk(sector int) []byte {
	disk := make([]byte, 64*sector)
	header := disk[sector : sector+gptHeaderSize]
	copy(header, gptSignature)
	binary.LittleEndian.PutUint32(header[12:], gptHeaderSize)
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 4)
	binary.LittleEndian.PutUint32(header[84:], gptEntrySize)
	entry := disk[2*sector+gptEntrySize:]
	entry[0] = 1 // some type
	copy(entry[16:], "\x5e\x0c\x3b\x9a\x11\x11\x22\x42\x83\x33\x44\x44\x55\x55\x66\x66")
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header))
	return disk
}

func TestTableUUIDs(t *testing.T) {
	mbr := make([]byte, 8192)
	copy(mbr[mbrSignatureAt:], "\x78\x56\x34\x12")
	mbr[mbrEntriesAt+4] = 0x0c
	mbr[mbrMagicAt], mbr[mbrMagicAt+1] = 0x55, 0xaa
	torn := gptDisk(512)
	torn[512+80]++ // the header's sum no longer fits
	many := gptDisk(512)
	binary.LittleEndian.PutUint32(many[512+80:], 1<<30)
	clear(many[512+16 : 512+20])
	binary.LittleEndian.PutUint32(many[512+16:], crc32.ChecksumIEEE(many[512:512+gptHeaderSize]))
	tests := []struct {
		name string
		disk []byte
		want map[int]string
	}{
		{"GPT", gptDisk(512), map[int]string{2: "9a3b0c5e-1111-4222-8333-444455556666"}},
		{"GPT in large sectors", gptDisk(4096), map[int]string{2: "9a3b0c5e-1111-4222-8333-444455556666"}},
		{"MBR", mbr, map[int]string{1: "12345678-01", 5: "12345678-05", 6: "12345678-06"}},
		{"torn header", torn, nil},
		{"absurd count", many, nil},
		{"blank", make([]byte, 8192), nil},
		{"too short", make([]byte, 100), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := TableUUIDs(bytes.NewReader(test.disk))
			if !maps.Equal(got, test.want) || (err == nil) != (test.want != nil) {
				t.Errorf("TableUUIDs = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestIdentifyKeepsWhatIsKnown(t *testing.T) {
	all := []Partition{
		{Disk: "vda", Number: 1, UUID: "told-by-sysfs"},
		{Disk: "vda", Number: 2},
		{Disk: "sr0", Number: 1},
	}
	opened := 0
	Identify(all, func(disk string) (io.ReaderAt, error) {
		opened++
		if disk == "sr0" {
			return nil, errors.New("no medium")
		}
		return bytes.NewReader(gptDisk(512)), nil
	})
	if all[0].UUID != "told-by-sysfs" || all[1].UUID != "9a3b0c5e-1111-4222-8333-444455556666" || all[2].UUID != "" {
		t.Errorf("Identify left %+v", all)
	}
	if opened != 2 {
		t.Errorf("Identify opened %d disks, want each once", opened)
	}
}

func FuzzTableUUIDs(f *testing.F) {
	f.Add(gptDisk(512))
	f.Add(make([]byte, 8192))
	f.Fuzz(func(t *testing.T, disk []byte) {
		uuids, err := TableUUIDs(bytes.NewReader(disk))
		if err != nil && len(uuids) > 0 {
			t.Errorf("TableUUIDs returns both %v and %v", uuids, err)
		}
	})
}
