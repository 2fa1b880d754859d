package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// gptDisk is a disk of 64 sectors with a GPT and its copy; partition 2 has the GUID
// 03020100-0504-0706-0809-0a0b0c0d0e0f.
func gptDisk(sector int) []byte {
	const sectors = 64
	b := make([]byte, sectors*sector)
	b[446+4], b[510], b[511] = 0xee, 0x55, 0xaa
	entries := make([]byte, 4*128)
	entries[128] = 1
	for i := range 16 {
		entries[128+16+i] = byte(i)
	}
	for _, at := range []struct{ header, entries int }{{1, 2}, {sectors - 1, sectors - 5}} {
		h := b[at.header*sector:][:512]
		copy(h, "EFI PART")
		binary.LittleEndian.PutUint32(h[12:], 92)
		binary.LittleEndian.PutUint64(h[24:], uint64(at.header))
		binary.LittleEndian.PutUint64(h[72:], uint64(at.entries))
		binary.LittleEndian.PutUint32(h[80:], 4)
		binary.LittleEndian.PutUint32(h[84:], 128)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		copy(b[at.entries*sector:], entries)
	}
	return b
}

const gptUUID = "03020100-0504-0706-0809-0a0b0c0d0e0f"

func TestReadUUIDs(t *testing.T) {
	for _, sector := range []Bytes{512, 4096} {
		disk := gptDisk(int(sector))
		for _, damage := range []int{-1, int(sector) + 20, 2*int(sector) + 130} { // none, header, entries
			if damage >= 0 {
				disk = gptDisk(int(sector))
				disk[damage] ^= 0xff
			}
			uuids, err := ReadUUIDs(bytes.NewReader(disk), sector, Bytes(len(disk)))
			if err != nil || len(uuids) != 1 || uuids[2] != gptUUID {
				t.Errorf("sector %d, damage at %d: %v, %v", sector, damage, uuids, err)
			}
		}
		disk[len(disk)-int(sector)] = 0 // the copy too; the entries of the first are damaged by now
		if uuids, err := ReadUUIDs(bytes.NewReader(disk), sector, Bytes(len(disk))); err == nil {
			t.Errorf("two damaged tables give %v", uuids)
		}
	}
}

func TestReadUUIDsRefusesGarbage(t *testing.T) {
	many := gptDisk(512)
	for _, header := range []int{512, 63 * 512} { // with a right checksum
		binary.LittleEndian.PutUint32(many[header+80:], 1<<30)
		clear(many[header+16 : header+20])
		binary.LittleEndian.PutUint32(many[header+16:], crc32.ChecksumIEEE(many[header:header+92]))
	}
	for name, disk := range map[string][]byte{"absurd count": many, "blank": make([]byte, 8192),
		"too short": make([]byte, 100), "cut": gptDisk(512)[:1000]} {
		if uuids, err := ReadUUIDs(bytes.NewReader(disk), 512, Bytes(len(disk))); err == nil {
			t.Errorf("%s gives %v", name, uuids)
		}
	}
	hybrid := gptDisk(512)
	hybrid[446+4], hybrid[446+16+4] = 0x0c, 0xee
	if uuids, err := ReadUUIDs(bytes.NewReader(hybrid), 512, Bytes(len(hybrid))); err != nil || uuids[2] != gptUUID {
		t.Errorf("a hybrid table gives %v, %v", uuids, err)
	}
}

func TestReadUUIDsMBR(t *testing.T) {
	b := make([]byte, 4096)
	if _, err := ReadUUIDs(bytes.NewReader(b), 512, 4096); err == nil {
		t.Error("an empty disk has a table")
	}
	b[510], b[511] = 0x55, 0xaa
	binary.LittleEndian.PutUint32(b[440:], 0xdeadbeef)
	uuids, err := ReadUUIDs(bytes.NewReader(b), 512, 4096)
	if err != nil || uuids[5] != "deadbeef-05" {
		t.Errorf("MBR gives %v, %v", uuids[5], err)
	}
}

func TestIdentify(t *testing.T) {
	sysfs := fakeSysfs(t, map[string][]string{pci3: {Boot, "other"}, pci4: {Boot, "other"}})
	size := filepath.Join(sysfs, pci3, "size")
	if err := os.WriteFile(size, []byte("64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dev := t.TempDir()
	if err := os.WriteFile(filepath.Join(dev, "vda"), gptDisk(512), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := Read(sysfs)
	if err != nil {
		t.Fatal(err)
	}
	all[0].UUID = "told-by-sysfs"
	if err := Identify(sysfs, dev, all); err == nil {
		t.Error("the missing vdb is no fault")
	}
	if all[0].UUID != "told-by-sysfs" {
		t.Errorf("what sysfs told is now %q", all[0].UUID)
	}
	if same := ByUUID(all, gptUUID); len(same) != 1 || same[0].Device != "vda2" {
		t.Errorf("ByUUID = %+v", same)
	}
}

func FuzzReadUUIDs(f *testing.F) {
	f.Add(gptDisk(512))
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		uuids, err := ReadUUIDs(bytes.NewReader(b), 512, Bytes(len(b)))
		if err != nil && uuids != nil {
			t.Errorf("both %v and %v", uuids, err)
		}
	})
}
