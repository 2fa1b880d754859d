package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
)

// A Boot is the kept log of one boot, in a directory: sealed chunks, as the ring writes them, or grown ones. A reader
// opens each chunk when it reaches it, so any number of readers may read while the writer writes; a chunk that is
// removed meanwhile is a gap.
//
// The directory of all boots holds one directory each, NUMBER-BOOTID: eight decimal digits that count the boots,
// because the clock of a device without a battery cannot order them, and the kernel's boot id. It contains chunks with
// the same names as in the ring. The writer creates each by rename, so that it is complete.
type Boot struct {
	Number int
	ID     string

	dir    string
	firsts []uint64
	next   uint64 // seq after the last entry; math.MaxUint64 if the last chunk does not contain it
}

// Boots returns the boots in dir, oldest first. Files that are no chunk, and directories that are no boot, are skipped
// and listed as strange, by their names below dir. A missing directory has no boots.
func Boots(dir string) (boots []*Boot, strange []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list boots: %w", err)
	}
	for _, boot := range entries { // sorted by name, so by number
		number, id, ok := ParseBootDir(boot.Name())
		if !ok || !boot.IsDir() {
			strange = append(strange, boot.Name())
			continue
		}
		b := &Boot{Number: number, ID: id, dir: filepath.Join(dir, boot.Name())}
		odd, err := b.list()
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // given up just now
			return nil, nil, fmt.Errorf("list boots: %w", err)
		}
		for _, name := range odd {
			strange = append(strange, filepath.Join(boot.Name(), name))
		}
		if len(b.firsts) > 0 {
			boots = append(boots, b)
		}
	}
	return boots, strange, nil
}

// BootDir returns the name of the directory of a boot.
func BootDir(number int, boot [16]byte) string {
	return fmt.Sprintf("%08d-%s", number, chunk.BootString(boot))
}

// ParseBootDir is the reverse of BootDir.
func ParseBootDir(name string) (number int, id string, ok bool) {
	digits, id, ok := strings.Cut(name, "-")
	n, err := strconv.ParseUint(digits, 10, 31)
	if !ok || err != nil || len(digits) != 8 || len(id) != len(chunk.BootString([16]byte{})) {
		return 0, "", false
	}
	return int(n), id, true
}

func (b *Boot) list() (strange []string, err error) {
	files, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files { // sorted by name, which is the order of the entries
		if strings.HasSuffix(file.Name(), chunk.Suffix+tmp) {
			continue // it is being created
		}
		if _, ok := chunk.ParseFileName(file.Name()); !ok || !file.Type().IsRegular() {
			strange = append(strange, file.Name())
			continue
		}
		c, h, err := readChunk(filepath.Join(b.dir, file.Name()))
		if err != nil || chunk.BootString(h.Boot) != b.ID {
			if !errors.Is(err, fs.ErrNotExist) { // given up just now
				strange = append(strange, file.Name())
			}
			continue
		}
		b.firsts = append(b.firsts, c.first)
		if b.next = math.MaxUint64; h.Codec == chunk.CodecPacked {
			b.next = c.first + uint64(h.Entries)
		}
	}
	return strange, nil
}

// Oldest returns the seq of the first existing entry.
func (b *Boot) Oldest() uint64 { return b.firsts[0] }

// NewReader returns a reader whose first entry is from, or the oldest existing one. Close it after use.
func (b *Boot) NewReader(from uint64) *Reader { return newReader(b, from) }

// Tail is Ring.Tail.
func (b *Boot) Tail(n int, until uint64, keep func(*entry.Entry) bool) (from uint64, found int, err error) {
	return tail(b, b.firsts, min(until, b.next), n, keep)
}

func (b *Boot) path(first uint64) string { return filepath.Join(b.dir, chunk.FileName(first)) }

func (b *Boot) find(seq uint64) (first uint64, ok bool) {
	i := sort.Search(len(b.firsts), func(i int) bool { return b.firsts[i] > seq })
	return b.firsts[max(i-1, 0)], seq < b.next
}

func (b *Boot) after(first uint64) (next uint64, ok bool) {
	i := slices.Index(b.firsts, first) + 1
	if i == len(b.firsts) {
		return 0, false
	}
	return b.firsts[i], true
}

func (b *Boot) extent(_ uint64, file *os.File) (size int64, next uint64, err error) {
	st, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	if b.next == math.MaxUint64 {
		return st.Size(), 0, nil
	}
	return st.Size(), b.next, nil
}
