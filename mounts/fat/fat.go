// Package fat reads a FAT file system without the kernel: its files, how full it is, and whether two of its files share
// blocks. It reads what a power cut has left in the same way as Linux' vfat: by the first table, whatever the second
// contains.
//
// FAT stores the place of a file in its directory entry. A power cut between two sectors of a directory can therefore
// leave a renamed file under both names. Removing or replacing either name then frees the blocks of both. The kernel
// cannot be asked: FIBMAP uses the length of a file, and the entry of an empty file can refer to blocks too. This
// package never writes. Read FileSystem first, then Shared.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNone is wrapped by the error for a disk without a FAT file system, or with one that cannot be followed.
var ErrNone = errors.New("no intact FAT file system")

// A FileSystem holds the places of the parts of a FAT. All numbers are little-endian (Microsoft FAT specification 1.03,
// section 3). Of sector 0 these bytes are used:
//
//	11 u16 bytes a sector     13 u8 sectors a cluster     14 u16 sectors before the tables     16 u8 tables
//	17 u16 entries of the root    19 u16, 32 u32 sectors    22 u16, 36 u32 sectors a table
//	44 u32 FAT32's first cluster of the root    39 u32 number, 43 label (11 bytes); of FAT32 67 and 71
type FileSystem struct {
	Label  string
	Number uint32 // its UUID is derived from this number

	disk     io.ReaderAt
	cluster  int64 // bytes
	table    int64 // offset of the first table
	data     int64 // offset of cluster 2
	clusters uint32
	bits     uint32 // size of a table entry: 12, 16, 32
	root     uint32 // its first cluster; 0: it is before the data
	rootSize int64  // and has this many bytes

	window   []byte // a part of the table, so that following a chain does not read single entries
	windowAt int64  // offset of the window in the table
}

const (
	// mostDirectories limits the directories that one call reads, in bytes: those of a boot partition have some
	// kilobytes.
	mostDirectories = 4 << 20
	// mostFile limits the size of a file: no file of a boot partition reaches it.
	mostFile = 32 << 20

	windowSize = 4 << 10

	// bad12 is the last cluster number of FAT12 that does not end a chain; FAT16 and FAT32 have more bits in front
	// (section 4).
	bad12 = 0xff7
)

// Open reads the boot sector. The error wraps ErrNone if it is not that of a FAT.
func Open(disk io.ReaderAt) (*FileSystem, error) {
	b := make([]byte, 512)
	if _, err := disk.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read boot sector: %w", err)
	}
	half := func(at int) int64 { return int64(binary.LittleEndian.Uint16(b[at:])) }
	either := func(short, long int) int64 {
		if n := half(short); n != 0 {
			return n
		}
		return int64(binary.LittleEndian.Uint32(b[long:]))
	}
	sector, perTable := half(11), either(22, 36)
	if half(510) != 0xaa55 || sector < 512 || sector > 4096 || b[13] == 0 || b[16] == 0 || perTable == 0 {
		return nil, fmt.Errorf("%w: its boot sector is none", ErrNone)
	}
	f := &FileSystem{disk: disk, cluster: int64(b[13]) * sector, table: half(14) * sector, rootSize: half(17) * 32}
	f.data = f.table + int64(b[16])*perTable*sector + (f.rootSize+sector-1)/sector*sector
	f.clusters = uint32(max(either(19, 32)*sector-f.data, 0) / f.cluster)
	number := 39
	switch {
	case half(22) == 0:
		f.bits, f.root, number = 32, binary.LittleEndian.Uint32(b[44:]), 67
	case f.clusters > 0xff4: // as Linux distinguishes them (fs/fat/inode.c)
		f.bits = 16
	default:
		f.bits = 12
	}
	// as many as the table has entries for
	f.clusters = uint32(min(int64(f.clusters), max(perTable*sector*8/int64(f.bits)-2, 0)))
	f.Number, f.Label = binary.LittleEndian.Uint32(b[number:]), strings.TrimRight(string(b[number+4:number+15]), " ")
	return f, nil
}

// Usage returns the total size of the clusters, the size of the free ones, and whether the file system was unmounted.
// It reads the whole table.
func (f *FileSystem) Usage() (size, free int64, clean bool, err error) {
	for n := uint32(2); n-2 < f.clusters; n++ {
		next, err := f.entry(n)
		if err != nil {
			return 0, 0, false, err
		}
		if next == 0 {
			free += f.cluster
		}
	}
	first, err := f.entry(1)
	if err != nil {
		return 0, 0, false, err
	}
	cleanBit := map[uint32]uint32{16: 0x8000, 32: 0x08000000}[f.bits] // "clean shut bit"; FAT12 has none
	return int64(f.clusters) * f.cluster, free, first&cleanBit == cleanBit, nil
}

// entry is one entry of the table.
func (f *FileSystem) entry(n uint32) (uint32, error) {
	at := int64(n) * int64(f.bits) / 8
	if at < f.windowAt || at+4 > f.windowAt+int64(len(f.window)) {
		if f.window == nil {
			f.window = make([]byte, windowSize)
		}
		count, err := f.disk.ReadAt(f.window[:windowSize], f.table+at)
		f.window, f.windowAt = f.window[:count], at
		if count < 4 {
			return 0, fmt.Errorf("read table: %w", err)
		}
	}
	next := binary.LittleEndian.Uint32(f.window[at-f.windowAt:])
	switch {
	case f.bits == 32:
		next &= 0x0fffffff // the upper four are reserved
	case f.bits == 16:
		next &= 0xffff
	case n%2 == 0:
		next &= 0xfff
	default:
		next = next >> 4 & 0xfff
	}
	return next, nil
}

// chain reads the clusters from first to the end of their chain, or to the cluster that contains byte size-1 if size is
// not negative. It fails if there are fewer than size bytes, or more than most.
func (f *FileSystem) chain(first uint32, size, most int64) ([]byte, error) {
	var all []byte
	err := f.follow(first, size, most, func(n uint32) error {
		part := make([]byte, f.cluster)
		if _, err := f.disk.ReadAt(part, f.place(n)); err != nil {
			return fmt.Errorf("read cluster %d: %w", n, err)
		}
		all = append(all, part...)
		return nil
	})
	if err != nil || size < 0 {
		return all, err
	}
	return all[:size], nil
}

// follow calls each for the clusters that chain reads.
func (f *FileSystem) follow(first uint32, size, most int64, each func(n uint32) error) error {
	if size > most {
		return fmt.Errorf("%d bytes, at most %d are read", size, most)
	}
	n := first
	for done := int64(0); size < 0 || done < size; done += f.cluster {
		if n < 2 || n-2 >= f.clusters {
			return fmt.Errorf("%w: clusters end after %d bytes", ErrNone, done)
		}
		if done >= most {
			return fmt.Errorf("%w: clusters have no end", ErrNone)
		}
		if err := each(n); err != nil {
			return err
		}
		next, err := f.entry(n)
		if err != nil {
			return err
		}
		if size < 0 && next > bad12|(1<<min(f.bits, 28)-1)&^0xfff {
			return nil
		}
		n = next
	}
	return nil
}

// place returns where a cluster lies on the disk.
func (f *FileSystem) place(n uint32) int64 { return f.data + int64(n-2)*f.cluster }
