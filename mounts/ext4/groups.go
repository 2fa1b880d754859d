package ext4

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// The fields of a group descriptor that we read (Linux, Documentation/filesystems/ext4/group_descr.rst).
const (
	groupFlags    = 0x12
	groupUnused   = 0x1c // inodes at the end of the table that were never used
	groupChecksum = 0x1e
	groupTable    = 0x08 // block where the inodes begin
	groupTableHi  = 0x28
	groupUnusedHi = 0x32
	groupSize     = 32
	groupSize64   = 64 // then each field above has its upper half behind the first 32 bytes

	inodesUninit, blocksUninit = 1, 2
	inodesZeroed               = 4 // the unused part of the table has been zeroed
	incompatMetaGroups         = 0x10
)

// bitmaps lists, for the two bitmaps of a group, the fields of the descriptor, and the field of the superblock with the
// number of bits.
var bitmaps = [...]struct{ block, blockHi, checksum, checksumHi, bits int }{
	{0x00, 0x20, 0x18, 0x38, 0x24}, // of blocks (clusters, where there are some)
	{0x04, 0x24, 0x1a, 0x3a, 0x28}, // of inodes
}

// mostGroups limits the descriptors that are read into memory: 128 TiB with the groups of mke2fs.
const mostGroups = 1 << 20

// restoreGroups replaces the group descriptors behind the first superblock by those behind a copy. The copies are as
// old as the copy of the superblock: a group that they mark as never used may be in use now. restoreGroups therefore
// removes that mark, so that e2fsck looks at the bitmaps and inodes of each group, after dropGarbage. e2fsck reads a
// bitmap only if its checksum is right ("Error initializing quota context in support library: Block bitmap checksum
// does not match bitmap"), so each descriptor gets the checksum of the bitmap on the disk.
func restoreGroups(d Disk, c Copy, super []byte) error {
	all, err := readGroups(d, (c.Block+1)*c.BlockSize, super)
	if err != nil {
		return err
	}
	_, size, _ := groups(super) // readGroups has used it: no error
	seed := groupSeed(super)
	for n := range len(all) / size {
		g := all[n*size:][:size]
		if err := dropGarbage(d, c.BlockSize, super, g, n); err != nil {
			return err
		}
		binary.LittleEndian.PutUint16(g[groupFlags:],
			binary.LittleEndian.Uint16(g[groupFlags:])&^(inodesUninit|blocksUninit))
		binary.LittleEndian.PutUint16(g[groupUnused:], 0)
		if size == groupSize64 {
			binary.LittleEndian.PutUint16(g[groupUnusedHi:], 0)
		}
		sumBitmaps(d, c.BlockSize, super, g)
		binary.LittleEndian.PutUint16(g[groupChecksum:], groupSum(seed, n, g))
	}
	// The descriptors reach the disk before a superblock refers to them.
	if _, err = d.WriteAt(all, c.BlockSize); err == nil {
		err = d.Sync()
	}
	if err != nil {
		return fmt.Errorf("write descriptors of the groups: %w", err)
	}
	return nil
}

// sumBitmaps writes the checksums of a group's bitmaps into its descriptor. A bitmap that cannot be read is left to
// e2fsck.
func sumBitmaps(r io.ReaderAt, blockSize int64, super, g []byte) {
	u32 := binary.LittleEndian.Uint32
	for _, m := range bitmaps {
		bits, block := int64(u32(super[m.bits:])), int64(u32(g[m.block:]))
		if len(g) == groupSize64 {
			block |= int64(u32(g[m.blockHi:])) << 32
		}
		if bits > blockSize*8 || block > 1<<48 {
			continue
		}
		b, err := read(r, block*blockSize, int(bits/8))
		if err != nil {
			continue
		}
		c := sum(groupSeed(super), b)
		binary.LittleEndian.PutUint16(g[m.checksum:], uint16(c))
		if len(g) == groupSize64 {
			binary.LittleEndian.PutUint16(g[m.checksumHi:], uint16(c>>16))
		}
	}
}

// readGroups reads the group descriptors at a place. The error wraps ErrNone if one of them is not intact.
func readGroups(r io.ReaderAt, at int64, super []byte) ([]byte, error) {
	count, size, err := groups(super)
	if err != nil {
		return nil, err
	}
	all, err := read(r, at, count*size)
	if err != nil {
		return nil, fmt.Errorf("read descriptors of the groups: %w", err)
	}
	seed := groupSeed(super)
	for n := range count {
		if g := all[n*size:][:size]; groupSum(seed, n, g) != binary.LittleEndian.Uint16(g[groupChecksum:]) {
			return nil, fmt.Errorf("%w, and the descriptor of group %d is lost too", ErrNone, n)
		}
	}
	return all, nil
}

// groups returns the number of group descriptors and their length. It fails for file systems with "meta" groups, whose
// descriptors are in other places, and without metadata_csum, where no checksum tells whether they are intact: ours
// have neither.
func groups(super []byte) (count, size int, err error) {
	u32 := binary.LittleEndian.Uint32
	blocks, first, each := uint64(u32(super[0x04:])), uint64(u32(super[0x14:])), uint64(u32(super[0x20:]))
	size = groupSize
	if u32(super[0x60:])&incompat64bit != 0 {
		blocks |= uint64(u32(super[0x150:])) << 32
		size = int(binary.LittleEndian.Uint16(super[0xfe:]))
	}
	if u32(super[0x60:])&incompatMetaGroups != 0 || u32(super[0x64:])&roMetadataCsum == 0 || each == 0 ||
		blocks <= first ||
		size != groupSize && size != groupSize64 || (blocks-first-1)/each >= mostGroups {
		return 0, 0, fmt.Errorf("%w, and the descriptors of its groups cannot be verified", ErrNone)
	}
	return int((blocks-first-1)/each) + 1, size, nil
}

// groupSeed is the start value of the checksums of a file system's parts.
func groupSeed(super []byte) uint32 {
	if binary.LittleEndian.Uint32(super[0x60:])&incompatSeed != 0 {
		return binary.LittleEndian.Uint32(super[0x270:])
	}
	return sum(^uint32(0), super[0x68:0x78])
}

// groupSum is the checksum of the n-th descriptor without the field of the checksum.
func groupSum(seed uint32, n int, g []byte) uint16 {
	c := sum(seed, binary.LittleEndian.AppendUint32(nil, uint32(n)))
	c = sum(sum(c, g[:groupChecksum]), []byte{0, 0})
	return uint16(sum(c, g[groupChecksum+2:]))
}

// sum continues the kernel's crc32c, which is not inverted at its ends as Go's is.
func sum(c uint32, b []byte) uint32 {
	return ^crc32.Update(^c, crc32.MakeTable(crc32.Castagnoli), b)
}
