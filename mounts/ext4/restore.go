package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Copy is the place of another superblock of a file system: its block, and the bytes of a block. The zero Copy means
// none.
type Copy struct{ Block, BlockSize int64 }

// FindCopy looks for the first copy of the superblock, which is at the beginning of the second block group: first in
// the place that the first superblock names, if that is still readable, then in the places that our file systems use. A
// copy counts if it is intact and names that place itself. File systems with blocks of 1 KiB, in which groups begin one
// block later, are not ours.
//
// e2fsck 1.47.2 looks for a copy by itself only in groups of mke2fs's default size, and with -p not at all.
func FindCopy(r io.ReaderAt) (Copy, bool) {
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return Copy{}, false
	}
	said := Copy{Block: int64(binary.LittleEndian.Uint32(b[0x20:])),
		BlockSize: 1024 << (binary.LittleEndian.Uint32(b[0x18:]) & 7)}
	for _, c := range []Copy{said, {8192, 4096}, {16384, 4096}, {32768, 4096}} {
		if _, err := r.ReadAt(b, c.Block*c.BlockSize); c.Block == 0 || err != nil {
			continue
		}
		s, err := Parse(b)
		if err == nil && s.BlockSize == c.BlockSize && int64(binary.LittleEndian.Uint32(b[0x20:])) == c.Block &&
			binary.LittleEndian.Uint16(b[0x5a:]) == 1 {
			return c, true
		}
	}
	return Copy{}, false
}

// A Disk is what Restore works on.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Restore repairs the first superblock of a file system that is not attached, after Read has returned ErrNone, from a
// copy that FindCopy found, and returns what it did. A power cut between the two sectors of the superblock leaves one
// sector older than the other. Both sectors agree in what the kernel never changes, and for the other fields either
// value will do: if they agree with the copy, the superblock only gets a new checksum. Otherwise the copy replaces it;
// and if the group descriptors behind it are not intact, their copies replace them too, and groups is true. If the
// copies of the descriptors are not intact either, nothing is written, and the error wraps ErrNone: `e2fsck -b` may
// know more.
//
// The caller must check the file system afterwards and let the journal be replayed, because some counts are old. A
// superblock that was replaced carries the error flag (Damaged) until e2fsck has checked it, so that a power cut cannot
// skip the check. After a power cut in Restore, the next call repairs it again.
//
// e2fsck -b is worse: it uses the copies of the descriptors in any case, older than everything else. With quotas e2fsck
// 1.47.2 then gives up ("Error initializing quota context"). If the kernel wrote the copy while the file system was
// attached, as it does when that grows, it gives up too ("unable to set superblock flags") and leaves a first
// superblock that marks an unchecked file system as clean.
func Restore(d Disk, c Copy) (said string, groups bool, err error) {
	first, err1 := read(d, superAt, superSize)
	last, err2 := read(d, c.Block*c.BlockSize, superSize)
	if err := errors.Join(err1, err2); err != nil {
		return "", false, fmt.Errorf("read superblocks: %w", err)
	}
	if agree(first, last) {
		said = "the superblock was torn and has a new checksum"
	} else {
		said = fmt.Sprintf("the superblock was lost and is restored from its copy in block %d", c.Block)
		first = renewed(last)
		if _, err := readGroups(d, c.BlockSize, first); err != nil {
			said, groups = said+", with the descriptors of its groups", true
			if err := restoreGroups(d, c, first); err != nil {
				return "", true, err
			}
		}
	}
	binary.LittleEndian.PutUint32(first[0x3fc:], checksum(first))
	if _, err := Parse(first); err != nil {
		return "", groups, fmt.Errorf("restore superblock: %w", err)
	}
	if _, err := d.WriteAt(first, superAt); err != nil {
		return "", groups, fmt.Errorf("write superblock: %w", err)
	}
	if err := d.Sync(); err != nil {
		return "", groups, fmt.Errorf("write superblock: %w", err)
	}
	return said, groups, nil
}

// renewed makes a first superblock from a copy.
func renewed(last []byte) []byte {
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	first := bytes.Clone(last)
	binary.LittleEndian.PutUint16(first[0x5a:], 0) // the block group that it is in
	// The journal may hold something that the copy does not know. Replaying it does no harm.
	binary.LittleEndian.PutUint32(first[0x60:], u32(first[0x60:])|incompatRecover)
	binary.LittleEndian.PutUint16(first[0x3a:], u16(first[0x3a:])|stateError)
	// An inode that was deleted but still open when the copy was written can be a file by now. If the list is right,
	// the journal contains it.
	binary.LittleEndian.PutUint32(first[0xe8:], 0)
	return first
}

func read(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.ReadAt(b, at)
	return b, err
}

// lasting lists the fields that the kernel never changes: offset and length (Linux,
// Documentation/filesystems/ext4/super.rst). The size of the file system is not among them: it can have grown since the
// copy was written.
var lasting = [...]struct{ at, length int }{
	{0x14, 4}, // first data block
	// sizes of blocks, clusters and groups, magic number
	{0x18, 4}, {0x1c, 4}, {0x20, 4}, {0x24, 4}, {0x28, 4}, {0x38, 2},
	{0x4c, 4}, {0x54, 4}, {0x58, 2}, {0x5c, 4}, {0x64, 4}, // revision, first inode, size of inodes, features
	{0xe0, 4}, {0xe4, 4}, {0xec, 16}, {0xfc, 1}, {0xfe, 2}, // journal, hash of directories, size of group descriptors
	{0x174, 1}, {0x175, 1}, // groups in a flexible one, kind of checksum
	{0x240, 8}, {0x26c, 4}, {0x270, 4}, // quota files, seed of checksums
}

// agree reports whether a damaged superblock still belongs to the file system that its copy describes.
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

// checksum is that of a superblock.
func checksum(b []byte) uint32 { return sum(^uint32(0), b[:0x3fc]) }
