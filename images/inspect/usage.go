package inspect

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"resinos/mounts/fat"
)

// usage reads the size and the state of the file system from its first sectors.
func (p *Partition) usage(r io.ReaderAt) {
	head := make([]byte, 2048)
	if _, err := r.ReadAt(head, 0); err != nil {
		return
	}
	if !p.ext4(head[1024:]) {
		p.fat(r)
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
		return false // no file system, or one of another partition
	}
	p.FileSystem, p.Free, p.Used = "ext4", free*block, (blocks-free)*block
	p.Name = strings.TrimRight(string(s[0x78:0x88]), "\x00")
	id := s[0x68:0x78]
	p.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
	p.Clean = u16(0x3A)&1 != 0 && u32(0x60)&needsRecovery == 0
	// time of the last mount, and how many since the last check: mke2fs writes zeros
	p.Mounted = u32(0x2C) != 0 || u16(0x34) != 0
	return true
}

// fat reads the boot sector and the table.
func (p *Partition) fat(r io.ReaderAt) {
	f, err := fat.Open(r)
	if err != nil {
		return
	}
	size, free, clean, err := f.Usage()
	if err != nil || size > p.Size {
		return // no file system, or one of another partition
	}
	p.FileSystem, p.Free, p.Used, p.Clean = "vfat", free, size-free, clean
	p.Name, p.UUID = f.Label, fmt.Sprintf("%04X-%04X", f.Number>>16, f.Number&0xFFFF)
}
