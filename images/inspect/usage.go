package inspect

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// usage fills in what the head of the file system says about itself.
func (p *Partition) usage(r io.ReaderAt) {
	head := make([]byte, 2048)
	if _, err := r.ReadAt(head, 0); err != nil {
		return
	}
	if !p.ext4(head[1024:]) {
		p.fat32(r, head[:512])
	}
}

// ext4 reads the superblock (Documentation/filesystems/ext4/super.rst), which begins at byte 1024.
func (p *Partition) ext4(s []byte) bool {
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(s[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(s[at:]) }
	if u16(0x38) != 0xEF53 || u32(0x18) > 6 {
		return false
	}
	block := int64(1024) << u32(0x18)
	blocks, free := int64(u32(0x4)), int64(u32(0xC))
	const needsRecovery, is64bit = 0x4, 0x80
	if u32(0x60)&is64bit != 0 {
		blocks |= int64(u32(0x150)) << 32
		free |= int64(u32(0x158)) << 32
	}
	if blocks < 0 || free < 0 || blocks > p.Size/block || free > blocks {
		return false // not a file system of this partition
	}
	p.FileSystem, p.Free, p.Used = "ext4", free*block, (blocks-free)*block
	p.Name = strings.TrimRight(string(s[0x78:0x88]), "\x00")
	id := s[0x68:0x78]
	p.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
	p.Clean = u16(0x3A)&1 != 0 && u32(0x60)&needsRecovery == 0
	return true
}

// fat32 reads the boot sector (fatgen103, "FAT32 structure starting at offset 36") and counts the free clusters.
func (p *Partition) fat32(r io.ReaderAt, s []byte) {
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(s[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(s[at:])) }
	if string(s[0x52:0x57]) != "FAT32" || s[510] != 0x55 || s[511] != 0xAA || s[0x0D] == 0 {
		return
	}
	sector, cluster, reserved, fats, fatSectors, sectors := u16(0x0B), int64(s[0x0D]), u16(0x0E), int64(s[0x10]), u32(0x24), u32(0x20)
	clusters := (sectors - reserved - fats*fatSectors) / cluster
	if sector != 512 || sectors*sector > p.Size || clusters <= 0 || (clusters+2)*4 > fatSectors*sector {
		return
	}
	fat := make([]byte, (clusters+2)*4)
	if _, err := r.ReadAt(fat, reserved*sector); err != nil {
		return
	}
	free := int64(0)
	for at := 8; at < len(fat); at += 4 {
		if binary.LittleEndian.Uint32(fat[at:])&0x0FFFFFFF == 0 {
			free++
		}
	}
	p.FileSystem, p.Free, p.Used = "vfat", free*cluster*sector, (clusters-free)*cluster*sector
	p.Name = strings.TrimRight(string(s[0x47:0x52]), " ")
	p.UUID = fmt.Sprintf("%04X-%04X", u32(0x43)>>16, u32(0x43)&0xFFFF)
	p.Clean = binary.LittleEndian.Uint32(fat[4:])&0x08000000 != 0 // entry 1: "clean shut bit"
}
