// Package fat owns what we read of a FAT file system without the kernel: where its files begin.
//
// FAT keeps a file's place in its folder's entry, so that a power cut between two sectors of a folder leaves a file that was
// renamed under both names. Whoever then removes either, or puts another file in its place, frees the blocks of both. The kernel does
// not tell: FIBMAP goes by a file's length, and the entry of an empty file can lead to blocks all the same. This package never
// writes. Read Shared first.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNone is wrapped by the answer for what holds no FAT, or none that can be followed.
var ErrNone = errors.New("no whole FAT file system")

// A Pair is two files that begin in the same block, by their short names.
type Pair [2]string

// String is the pair as a message has it.
func (p Pair) String() string { return p[0] + " and " + p[1] + " share their blocks" }

// Shared looks at all folders of a file system for two entries that lead to the same block. found is false if each file has its own.
func Shared(disk io.ReaderAt) (p Pair, found bool, err error) {
	v, err := open(disk)
	if err != nil {
		return p, false, err
	}
	owner := make(map[uint32]string)
	for folders, i := []uint32{0}, 0; i < len(folders); i++ {
		content, err := v.folder(folders[i])
		if err != nil {
			return p, false, err
		}
		for _, e := range v.entries(content) {
			if other, taken := owner[e.first]; taken {
				return Pair{other, e.name}, true, nil
			}
			owner[e.first] = e.name // so that no folder is read twice, whatever leads to it
			if e.folder {
				folders = append(folders, e.first)
			}
		}
	}
	return p, false, nil
}

// volume is where things lie. All numbers are little-endian (Microsoft FAT specification 1.03, section 3); of sector 0 count
//
//	11 u16 bytes a sector     13 u8 sectors a cluster     14 u16 sectors before the tables     16 u8 tables     17 u16 entries of the root
//	19 u16, 32 u32 sectors    22 u16, 36 u32 sectors a table    44 u32 FAT32's first cluster of the root
type volume struct {
	disk     io.ReaderAt
	cluster  int64 // bytes
	table    int64 // byte of the first
	data     int64 // byte of cluster 2
	clusters uint32
	bits     uint32 // of an entry of the table: 12, 16, 32
	root     uint32 // its first cluster; 0: it lies before the data
	rootSize int64  // and has so many bytes
	left     int64  // bytes of folders that may still be read
}

// patience bounds the folders of a file system, in bytes: on a boot partition they have some kilobytes.
const patience = 4 << 20

// bad12 is the last cluster number of FAT12 that is no end of a chain; FAT16 and FAT32 have more bits in front (section 4).
const bad12 = 0xff7

func open(disk io.ReaderAt) (*volume, error) {
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
	v := &volume{disk: disk, cluster: int64(b[13]) * sector, table: half(14) * sector, rootSize: half(17) * 32, left: patience}
	v.data = v.table + int64(b[16])*perTable*sector + (v.rootSize+sector-1)/sector*sector
	v.clusters = uint32(max(either(19, 32)*sector-v.data, 0) / v.cluster)
	switch {
	case half(22) == 0:
		v.bits, v.root = 32, binary.LittleEndian.Uint32(b[44:])
	case v.clusters > 0xff4: // as Linux tells them (fs/fat/inode.c)
		v.bits = 16
	default:
		v.bits = 12
	}
	return v, nil
}

// next follows the table. last is true at the end of a chain.
func (v *volume) next(n uint32) (next uint32, last bool, err error) {
	b := make([]byte, 4)
	at := int64(n) * int64(v.bits) / 8
	if _, err := v.disk.ReadAt(b, v.table+at); err != nil {
		return 0, false, fmt.Errorf("read table: %w", err)
	}
	next = binary.LittleEndian.Uint32(b)
	switch {
	case v.bits == 32:
		next &= 0x0fffffff // the upper four are reserved
	case v.bits == 16:
		next &= 0xffff
	case n%2 == 0:
		next &= 0xfff
	default:
		next = next >> 4 & 0xfff
	}
	return next, next > bad12|(1<<min(v.bits, 28)-1)&^0xfff, nil
}

type entry struct {
	name   string
	first  uint32
	folder bool
}

// folder reads a folder; 0 is the root.
func (v *volume) folder(first uint32) ([]byte, error) {
	if first == 0 && v.root == 0 {
		b := make([]byte, v.rootSize)
		if _, err := v.disk.ReadAt(b, v.data-v.rootSize); err != nil {
			return nil, fmt.Errorf("read root folder: %w", err)
		}
		return b, nil
	}
	if first == 0 {
		first = v.root
	}
	var all []byte
	for n, last := first, false; !last; {
		if v.left -= v.cluster; n < 2 || n-2 >= v.clusters || v.left < 0 {
			return nil, fmt.Errorf("%w: a folder has no end", ErrNone)
		}
		part := make([]byte, v.cluster)
		if _, err := v.disk.ReadAt(part, v.data+int64(n-2)*v.cluster); err != nil {
			return nil, fmt.Errorf("read folder: %w", err)
		}
		all = append(all, part...)
		var err error
		if n, last, err = v.next(n); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// entries decodes a folder: 32 bytes each, of which count 0 name, 11 u8 attributes, 20 and 26 u16 the halves of the first cluster.
func (v *volume) entries(b []byte) []entry {
	const volumeLabel, folder, free = 0x08, 0x10, 0xe5 // a part of a long name is also a label
	var list []entry
	for ; len(b) >= 32 && b[0] != 0; b = b[32:] {
		if b[0] == free || b[0] == '.' || b[11]&volumeLabel != 0 {
			continue
		}
		e := entry{name: shortName(b[:11]), first: uint32(binary.LittleEndian.Uint16(b[26:])), folder: b[11]&folder != 0}
		if v.bits == 32 {
			e.first |= uint32(binary.LittleEndian.Uint16(b[20:])) << 16
		}
		if e.first != 0 { // an empty file has none
			list = append(list, e)
		}
	}
	return list
}

func shortName(b []byte) string {
	name, kind := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
	if kind == "" {
		return name
	}
	return name + "." + kind
}
