package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Copy is where a file system has a further superblock: its block, and the bytes of a block. The zero Copy is none.
type Copy struct{ Block, BlockSize int64 }

// FindCopy looks for the first copy of the superblock, which lies at the beginning of the second block group: where the first superblock
// says that it is, if it still says anything, and else where ours are. A copy counts if it is whole and says of itself that it lies
// there. Blocks of 1 KiB, in which groups begin one block later, are not ours.
//
// e2fsck 1.47.2 looks for one by itself only in groups of mke2fs's own size, and with -p not at all.
func FindCopy(r io.ReaderAt) (Copy, bool) {
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return Copy{}, false
	}
	said := Copy{Block: int64(binary.LittleEndian.Uint32(b[0x20:])), BlockSize: 1024 << (binary.LittleEndian.Uint32(b[0x18:]) & 7)}
	for _, c := range []Copy{said, {8192, 4096}, {16384, 4096}, {32768, 4096}} {
		if _, err := r.ReadAt(b, c.Block*c.BlockSize); c.Block == 0 || err != nil {
			continue
		}
		s, err := Parse(b)
		if err == nil && s.BlockSize == c.BlockSize && int64(binary.LittleEndian.Uint32(b[0x20:])) == c.Block && binary.LittleEndian.Uint16(b[0x5a:]) == 1 {
			return c, true
		}
	}
	return Copy{}, false
}

// A Disk is what Restore works on.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// Restore mends the first superblock of a file system that is not attached, after Read has answered ErrNone, with a copy that FindCopy
// found, and says how. A cut between the superblock's two sectors leaves one of them older than the other. Both say the same of what
// the kernel never changes, and of the rest either will do: if they agree with the copy, a new checksum makes it whole. Anything else
// is replaced by the copy, if the descriptors of the groups, which lie behind it, are still there; otherwise nothing is done, and the
// error wraps ErrNone: e2fsck takes both from a copy, with -b.
//
// The file system is to be checked after it, and its journal replayed: some counts are old. That the disk has the new superblock is for
// the caller to see to (fsync); cut before, it is mended once more.
//
// It is better than e2fsck -b, which takes the descriptors too, older than all else. With quotas e2fsck 1.47.2 then gives up ("Error
// initializing quota context"), and before that where the kernel wrote the copy while the file system was attached ("unable to set
// superblock flags").
func Restore(d Disk, c Copy) (said string, err error) {
	first, err1 := read(d, superAt, superSize)
	last, err2 := read(d, c.Block*c.BlockSize, superSize)
	here, err3 := read(d, c.BlockSize, placesSize)
	there, err4 := read(d, (c.Block+1)*c.BlockSize, placesSize)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return "", fmt.Errorf("read superblocks: %w", err)
	}
	switch {
	case agree(first, last):
		said = "the superblock was torn and has a new checksum"
	case !bytes.Equal(here, there):
		return "", fmt.Errorf("%w, and the descriptors of its groups are lost too", ErrNone)
	default:
		said = fmt.Sprintf("the superblock was lost and is again what its copy in block %d says", c.Block)
		first = last
		binary.LittleEndian.PutUint16(first[0x5a:], 0) // the block group that it lies in
		// Whether there is something in the journal the copy does not know. There is no harm in looking.
		binary.LittleEndian.PutUint32(first[0x60:], binary.LittleEndian.Uint32(first[0x60:])|incompatRecover)
	}
	binary.LittleEndian.PutUint32(first[0x3fc:], checksum(first))
	if _, err := Parse(first); err != nil {
		return "", fmt.Errorf("restore superblock: %w", err)
	}
	if _, err := d.WriteAt(first, superAt); err != nil {
		return "", fmt.Errorf("write superblock: %w", err)
	}
	return said, nil
}

// placesSize is the part of a group's descriptor that says where its bitmaps and its inodes lie, which never changes.
const placesSize = 12

func read(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.ReadAt(b, at)
	return b, err
}

// lasting are the fields that the kernel never changes: offset and length (Linux, Documentation/filesystems/ext4/super.rst). Those that
// say how large the file system is are not among them: it can have grown since its copy was written.
var lasting = [...]struct{ at, length int }{
	{0x14, 4},                                                        // first data block
	{0x18, 4}, {0x1c, 4}, {0x20, 4}, {0x24, 4}, {0x28, 4}, {0x38, 2}, // sizes of blocks, clusters and groups, magic number
	{0x4c, 4}, {0x54, 4}, {0x58, 2}, {0x5c, 4}, {0x64, 4}, // revision, first inode, size of inodes, features
	{0xe0, 4}, {0xe4, 4}, {0xec, 16}, {0xfc, 1}, {0xfe, 2}, // journal, hash of directories, size of group descriptors
	{0x174, 1}, {0x175, 1}, // groups in a flexible one, kind of checksum
	{0x240, 8}, {0x26c, 4}, {0x270, 4}, // quota files, seed of checksums
}

// agree reports whether a superblock that is not whole is still of the file system that its copy describes.
func agree(first, last []byte) bool {
	for _, f := range lasting {
		if !bytes.Equal(first[f.at:][:f.length], last[f.at:][:f.length]) {
			return false
		}
	}
	u32 := binary.LittleEndian.Uint32
	blocks := func(b []byte) uint64 { return uint64(u32(b[0x150:]))<<32 | uint64(u32(b[0x04:])) }
	return u32(first[0x60:])|incompatRecover == u32(last[0x60:])|incompatRecover && blocks(first) >= blocks(last)
}

// checksum is that of a superblock. The kernel's crc32c begins with all ones and is not inverted at the end, as Go's is.
func checksum(b []byte) uint32 {
	return ^crc32.Checksum(b[:0x3fc], crc32.MakeTable(crc32.Castagnoli))
}
