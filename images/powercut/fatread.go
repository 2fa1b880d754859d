package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// Files reads a FAT32 file system as Linux' vfat does after a cut: by the first copy of the FAT, whatever the second says, and
// long names whose parts do not fit together are left out. (go-diskfs refuses such file systems, and forgets files' lengths.)
//
// All numbers are little-endian (Microsoft FAT specification 1.03). Bytes of sector 0 that count:
//
//	11 u16 bytes a sector   13 u8 sectors a cluster   14 u16 sectors before the FATs   16 u8 FATs   36 u32 sectors a FAT   44 u32 first cluster of the root
type Files struct {
	disk    io.ReaderAt
	fat     []byte
	cluster int64 // bytes
	data    int64 // byte of cluster 2
	root    uint32
}

// errNone is what reading a file says that is not there.
var errNone = errors.New("not there")

// mostBytes bounds a file: no file of the boot partition reaches it.
const mostBytes = 32 << 20

// OpenFiles reads the head of the file system and its first FAT.
func OpenFiles(disk io.ReaderAt) (*Files, error) {
	head := make([]byte, 512)
	if _, err := disk.ReadAt(head, 0); err != nil {
		return nil, err
	}
	half := func(at int) int64 { return int64(binary.LittleEndian.Uint16(head[at:])) }
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(head[at:])) }
	sector, fatSize := half(11), word(36)
	if half(510) != 0xaa55 || sector < 512 || sector > 4096 || head[13] == 0 || head[16] == 0 || fatSize == 0 || fatSize*sector > mostBytes {
		return nil, errors.New("its first sector is that of no FAT32")
	}
	f := &Files{disk: disk, cluster: int64(head[13]) * sector, root: uint32(word(44)), fat: make([]byte, fatSize*sector)}
	f.data = (half(14) + int64(head[16])*fatSize) * sector
	_, err := disk.ReadAt(f.fat, half(14)*sector)
	return f, err
}

// chain reads clusters from the first on: size bytes of them, or all if size is negative.
func (f *Files) chain(first uint32, size int64) ([]byte, error) {
	const end = 0x0ffffff8
	var out []byte
	for n := first; size < 0 || int64(len(out)) < size; {
		if n < 2 || n >= end || int64(n) >= int64(len(f.fat)/4) {
			return nil, fmt.Errorf("its clusters end after %d of %d bytes", len(out), size)
		}
		part := make([]byte, f.cluster)
		if _, err := f.disk.ReadAt(part, f.data+int64(n-2)*f.cluster); err != nil {
			return nil, err
		}
		if out = append(out, part...); len(out) > mostBytes {
			return nil, errors.New("its clusters have no end")
		}
		if n = binary.LittleEndian.Uint32(f.fat[4*n:]) & 0x0fffffff; n >= end && size < 0 {
			return out, nil
		}
	}
	return out[:size], nil
}

// A FATEntry is a file or folder.
type FATEntry struct {
	Name   string
	Folder bool
	Size   int64
	first  uint32
}

// List lists a folder; the path is like /system-connections, the root is /.
func (f *Files) List(path string) ([]FATEntry, error) {
	first := f.root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		e, err := f.find(first, name)
		if err != nil {
			return nil, err
		}
		if !e.Folder {
			return nil, errNone
		}
		first = e.first
	}
	return f.list(first)
}

// Read reads a file; the error is errNone if it is not there.
func (f *Files) Read(path string) ([]byte, error) {
	folder, name := "/", strings.TrimPrefix(path, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		folder, name = name[:i], name[i+1:]
	}
	list, err := f.List(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if strings.EqualFold(e.Name, name) && !e.Folder {
			return f.chain(e.first, e.Size)
		}
	}
	return nil, errNone
}

func (f *Files) find(folder uint32, name string) (FATEntry, error) {
	list, err := f.list(folder)
	if err != nil {
		return FATEntry{}, err
	}
	for _, e := range list {
		if strings.EqualFold(e.Name, name) {
			return e, nil
		}
	}
	return FATEntry{}, errNone
}

// list reads the slots of a folder. Slots of long names come before the slot of their file, last part first.
func (f *Files) list(first uint32) ([]FATEntry, error) {
	slots, err := f.chain(first, -1)
	if err != nil {
		return nil, err
	}
	const volume, folder, long = 0x08, 0x10, 0x0f
	var out []FATEntry
	var name longName
	for ; len(slots) >= 32 && slots[0] != 0; slots = slots[32:] {
		switch attributes := slots[11]; {
		case slots[0] == 0xe5: // deleted
			name = longName{}
		case attributes&0x3f == long:
			name.take(slots[:32])
		case attributes&volume != 0 || slots[0] == '.':
			name = longName{}
		default:
			out = append(out, FATEntry{
				Name: name.of(slots[:32]), Folder: attributes&folder != 0, Size: int64(binary.LittleEndian.Uint32(slots[28:])),
				first: uint32(binary.LittleEndian.Uint16(slots[20:]))<<16 | uint32(binary.LittleEndian.Uint16(slots[26:])),
			})
			name = longName{}
		}
	}
	return out, nil
}

// A longName is put together from its slots: byte 0 counts down to 1, with 0x40 in the first; byte 13 is a check of the short name.
type longName struct {
	text  []uint16
	next  byte // number that the next slot must have; 0: the name is whole
	check byte
	ok    bool
}

func (n *longName) take(slot []byte) {
	number := slot[0]
	if number&0x40 != 0 {
		*n = longName{next: number & 0x3f, check: slot[13], ok: true}
		number &= 0x3f
	}
	if !n.ok || number != n.next || number == 0 || slot[13] != n.check {
		*n = longName{}
		return
	}
	var part []uint16
	for _, stretch := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := stretch[0]; i < stretch[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(slot[i:]))
		}
	}
	n.text, n.next = append(part, n.text...), number-1
}

// of is the name of a file: the long one if it is whole and belongs to the file's slot, else the short one.
func (n *longName) of(slot []byte) string {
	check := byte(0)
	for _, b := range slot[:11] {
		check = check>>1 | check<<7
		check += b
	}
	if n.ok && n.next == 0 && check == n.check {
		text := n.text
		for i, unit := range text {
			if unit == 0 {
				text = text[:i]
				break
			}
		}
		return string(utf16.Decode(text))
	}
	name, ending := strings.TrimRight(string(slot[:8]), " "), strings.TrimRight(string(slot[8:11]), " ")
	if ending != "" {
		name += "." + ending
	}
	return strings.ToLower(name)
}
