package fat

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// Read reads a file by its path, such as "system-connections/wifi". As on every FAT, upper and lower case are equal.
// The error wraps fs.ErrNotExist if there is no such file.
func (f *FileSystem) Read(path string) ([]byte, error) {
	content, err := f.read(strings.Trim(path, "/"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content, nil
}

// Place returns where a file begins on the disk, and its size. What comes after the first cluster may be anywhere.
func (f *FileSystem) Place(path string) (at, size int64, err error) {
	e, err := f.find(strings.Trim(path, "/"))
	if err == nil && (e.first < 2 || e.first-2 >= f.clusters) {
		err = fmt.Errorf("%w: it has no cluster", ErrNone)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find %s: %w", path, err)
	}
	return f.place(e.first), e.size, nil
}

// An Extent is a piece of a file on the disk.
type Extent struct{ At, Size int64 }

// Extents returns the pieces of a file in their order, and where its directory entry lies on the disk: 32 bytes, which
// begin with the short name. An empty file has no pieces.
func (f *FileSystem) Extents(path string) (pieces []Extent, entryAt int64, err error) {
	e, err := f.find(strings.Trim(path, "/"))
	if err == nil {
		pieces, err = f.extents(e.first, e.size, mostFile)
	}
	if err == nil {
		entryAt, err = f.entryPlace(e)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("find %s: %w", path, err)
	}
	return pieces, entryAt, nil
}

func (f *FileSystem) extents(first uint32, size, most int64) (pieces []Extent, err error) {
	left := size
	err = f.follow(first, size, most, func(n uint32) error {
		here := min(left, f.cluster)
		if last := len(pieces) - 1; last >= 0 && pieces[last].At+pieces[last].Size == f.place(n) {
			pieces[last].Size += here
		} else {
			pieces = append(pieces, Extent{f.place(n), here})
		}
		left -= here
		return nil
	})
	return pieces, err
}

// entryPlace returns where the directory entry of a file lies on the disk.
func (f *FileSystem) entryPlace(e entry) (int64, error) {
	first := e.parent
	if first == 0 && f.root == 0 {
		return f.data - f.rootSize + e.offset, nil
	}
	if first == 0 {
		first = f.root
	}
	pieces, err := f.extents(first, e.offset+1, mostDirectories)
	if err != nil {
		return 0, err
	}
	last := pieces[len(pieces)-1]
	return last.At + last.Size - 1, nil
}

func (f *FileSystem) read(path string) ([]byte, error) {
	e, err := f.find(path)
	if err != nil {
		return nil, err
	}
	return f.chain(e.first, e.size, mostFile)
}

// find returns the entry of a file.
func (f *FileSystem) find(path string) (entry, error) {
	first, left := uint32(0), int64(mostDirectories)
	for {
		name, rest, deeper := strings.Cut(path, "/")
		list, err := f.directory(first, &left)
		if err != nil {
			return entry{}, err
		}
		e, found := find(list, name)
		if !found || e.directory != deeper {
			return entry{}, fs.ErrNotExist
		}
		if deeper && e.first == 0 {
			return entry{}, fmt.Errorf("%w: directory %s has no cluster", ErrNone, name)
		}
		if !deeper {
			e.parent = first
			return e, nil
		}
		first, path = e.first, rest
	}
}

func find(list []entry, name string) (entry, bool) {
	for _, e := range list {
		if strings.EqualFold(e.name, name) || strings.EqualFold(e.short, name) {
			return e, true
		}
	}
	return entry{}, false
}

// An entry is a file or directory.
type entry struct {
	name      string // the long name if it has one
	short     string
	first     uint32 // cluster; 0: none
	size      int64
	directory bool
	offset    int64  // of the entry in its directory
	parent    uint32 // first cluster of its directory, 0: the root; find sets it
}

// directory reads a directory; 0 is the root. It subtracts what it reads from left.
func (f *FileSystem) directory(first uint32, left *int64) ([]entry, error) {
	if first == 0 && f.root == 0 {
		b := make([]byte, f.rootSize)
		if _, err := f.disk.ReadAt(b, f.data-f.rootSize); err != nil {
			return nil, fmt.Errorf("read root directory: %w", err)
		}
		return f.entries(b), nil
	}
	if first == 0 {
		first = f.root
	}
	b, err := f.chain(first, -1, *left)
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	*left -= int64(len(b))
	return f.entries(b), nil
}

// entries decodes a directory of entries of 32 bytes each. Offsets in an entry: 0 name, 11 u8 attributes, 20 and 26 u16
// the halves of the first cluster, 28 u32 size. The parts of a long name come before the entry of its file, last part
// first.
func (f *FileSystem) entries(b []byte) []entry {
	const volumeLabel, long, free = 0x08, 0x0f, 0xe5
	var list []entry
	var name longName
	whole := len(b)
	for ; len(b) >= 32 && b[0] != 0; b = b[32:] {
		switch attributes := b[11]; {
		case b[0] == free, b[0] == '.', attributes&volumeLabel != 0 && attributes&0x3f != long:
			name = longName{}
		case attributes&0x3f == long:
			name.take(b[:32])
		default:
			e := f.file(b[:32], name.of(b[:11]))
			e.offset = int64(whole - len(b))
			list = append(list, e)
			name = longName{}
		}
	}
	return list
}

func (f *FileSystem) file(b []byte, long string) entry {
	const directory = 0x10
	e := entry{
		name: long, short: shortName(b[:11]), first: uint32(binary.LittleEndian.Uint16(b[26:])),
		size: int64(binary.LittleEndian.Uint32(b[28:])), directory: b[11]&directory != 0,
	}
	if f.bits == 32 {
		e.first |= uint32(binary.LittleEndian.Uint16(b[20:])) << 16
	}
	if long == "" {
		e.name = strings.ToLower(e.short)
	}
	return e
}

func shortName(b []byte) string {
	name, kind := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
	if kind == "" {
		return name
	}
	return name + "." + kind
}

// A longName is combined from its parts: byte 0 counts down to 1, with 0x40 added in the first; byte 13 is a checksum
// of the short name. Parts that do not fit together, as a power cut leaves them, give no name.
type longName struct {
	text  []uint16
	next  byte // number that the next part must have; 0: the name is complete
	check byte
	ok    bool
}

func (n *longName) take(part []byte) {
	number := part[0]
	if number&0x40 != 0 {
		*n = longName{next: number & 0x3f, check: part[13], ok: true}
		number &= 0x3f
	}
	if !n.ok || number != n.next || number == 0 || part[13] != n.check {
		*n = longName{}
		return
	}
	var text []uint16
	for _, stretch := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := stretch[0]; i < stretch[1]; i += 2 {
			text = append(text, binary.LittleEndian.Uint16(part[i:]))
		}
	}
	n.text, n.next = append(text, n.text...), number-1
}

// of returns the name if it is complete and belongs to the short one, else "".
func (n *longName) of(short []byte) string {
	check := byte(0)
	for _, b := range short {
		check = check>>1 | check<<7
		check += b
	}
	if !n.ok || n.next != 0 || check != n.check {
		return ""
	}
	text := n.text
	for i, unit := range text {
		if unit == 0 {
			text = text[:i]
			break
		}
	}
	return string(utf16.Decode(text))
}
