package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The fields of an inode that we read (Linux, Documentation/filesystems/ext4/inodes.rst).
const (
	inodeGeneration = 0x64
	inodeChecksum   = 0x7c
	inodeExtraSize  = 0x80
	inodeChecksumHi = 0x82
)

// dropGarbage zeroes what was on the disk before the file system in the inode table of group n: the kernel zeroes the
// unused part of a table some time after the file system was made or has grown. g is the descriptor of a copy, and an
// inode that has been used since has the checksum that the kernel gives each one.
func dropGarbage(d Disk, blockSize int64, super, g []byte, n int) error {
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	each, length := int64(u32(super[0x28:])), int64(u16(super[0x58:]))
	if u16(g[groupFlags:])&inodesZeroed != 0 || length < 128 || length > blockSize {
		return nil
	}
	unused, table := int64(u16(g[groupUnused:])), int64(u32(g[groupTable:]))
	if len(g) == groupSize64 {
		unused |= int64(u16(g[groupUnusedHi:])) << 16
		table |= int64(u32(g[groupTableHi:])) << 32
	}
	if u16(g[groupFlags:])&inodesUninit != 0 || unused > each {
		unused = each
	}
	seed, perBlock := groupSeed(super), blockSize/length
	for first := each - unused; first < each; {
		block := first / perBlock
		b, err := read(d, (table+block)*blockSize, int(blockSize))
		if err != nil {
			return nil // e2fsck says more about a disk that cannot be read
		}
		changed := false
		for ; first < min((block+1)*perBlock, each); first++ {
			inode := b[first%perBlock*length:][:length]
			if !zero(inode) && !inodeIntact(inode, seed, uint32(int64(n)*each+first+1)) {
				clear(inode)
				changed = true
			}
		}
		if !changed {
			continue
		}
		if _, err := d.WriteAt(b, (table+block)*blockSize); err != nil {
			return fmt.Errorf("write inodes of group %d: %w", n, err)
		}
	}
	return nil
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// inodeIntact reports whether an inode has the checksum of its number and content.
func inodeIntact(inode []byte, seed, number uint32) bool {
	b := bytes.Clone(inode)
	want, mask := uint32(binary.LittleEndian.Uint16(b[inodeChecksum:])), uint32(0xffff)
	binary.LittleEndian.PutUint16(b[inodeChecksum:], 0)
	if len(b) > inodeExtraSize+4 && binary.LittleEndian.Uint16(b[inodeExtraSize:]) >= 4 {
		want, mask = want|uint32(binary.LittleEndian.Uint16(b[inodeChecksumHi:]))<<16, 0xffffffff
		binary.LittleEndian.PutUint16(b[inodeChecksumHi:], 0)
	}
	c := sum(seed, binary.LittleEndian.AppendUint32(nil, number))
	return sum(sum(c, b[inodeGeneration:inodeGeneration+4]), b)&mask == want
}
