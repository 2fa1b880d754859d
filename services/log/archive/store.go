package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"

	"resinos/services/log/chunk"
	"resinos/services/log/ring"
)

const (
	blockSize = 4096 // the smallest allocation of the file system, for a file or a directory
	aside     = ".tmp"
	// maxNumber is the largest number with the eight digits of a boot's directory.
	maxNumber = 99_999_999
	// maxSaid limits how many strange files are logged.
	maxSaid = 8
)

// store lists the chunks in the directory and keeps them within the budget.
type store struct {
	disk  disk
	limit int64
	boots []bootDir // by number
	files []kept    // oldest first
}

type bootDir struct {
	name   string
	number int
	id     string
}

// kept is one chunk.
type kept struct {
	dir, name string
	size      int64
}

func (k kept) path() string { return path.Join(k.dir, k.name) }

// blocks returns the disk space of a file of size bytes.
func blocks(size int64) int64 { return (size + blockSize - 1) &^ (blockSize - 1) }

// openStore lists the directory. It removes incomplete files that a power cut has left. Files that are no chunks stay,
// and are logged.
func openStore(d disk, limit int64, log *slog.Logger) (*store, error) {
	s := &store{disk: d, limit: limit}
	top, err := d.list(".")
	if err != nil {
		return nil, fmt.Errorf("list log archive: %w", err)
	}
	for _, entry := range top {
		if number, id, ok := ring.ParseBootDir(entry.Name()); ok && entry.IsDir() {
			s.boots = append(s.boots, bootDir{entry.Name(), number, id})
		}
	}
	slices.SortFunc(s.boots, func(a, b bootDir) int { return strings.Compare(a.name, b.name) })
	for _, boot := range slices.Clone(s.boots) {
		if err := s.take(boot); err != nil {
			return nil, fmt.Errorf("list log archive: %w", err)
		}
	}
	_, strange, err := ring.Boots(d.path())
	if err != nil {
		return nil, err
	}
	for _, name := range strange[:min(len(strange), maxSaid)] {
		log.Warn("log archive contains an unknown file, ignored", "path", path.Join(d.path(), name))
	}
	if more := len(strange) - maxSaid; more > 0 {
		log.Warn("log archive contains more unknown files", "count", more)
	}
	return s, nil
}

// take adds a boot's files.
func (s *store) take(boot bootDir) error {
	entries, err := s.disk.list(boot.name)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, entry := range entries {
		k := kept{dir: boot.name, name: entry.Name()}
		whole, half := strings.CutSuffix(k.name, aside)
		if _, ok := chunk.ParseFileName(whole); !ok || !entry.Type().IsRegular() {
			continue
		}
		if half {
			if err := s.disk.remove(k.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if k.size, err = s.disk.size(k.path()); err != nil {
			return err
		}
		s.files = append(s.files, k)
	}
	if !slices.ContainsFunc(s.files, func(k kept) bool { return k.dir == boot.name }) {
		s.leave(boot.name)
	}
	return nil
}

// used returns the disk space of all chunks.
func (s *store) used() int64 {
	sum := int64(len(s.boots)) * blockSize
	for _, k := range s.files {
		sum += blocks(k.size)
	}
	return sum
}

// evict removes the oldest chunks, but never current, until n more bytes fit into the budget.
func (s *store) evict(n int64, current kept) {
	for s.used()+blocks(n)+blockSize > s.limit && s.giveUp(current) {
	}
}

// giveUp removes the oldest chunk unless that is current, and reports whether it removed one.
func (s *store) giveUp(current kept) bool {
	if len(s.files) == 0 || s.files[0].path() == current.path() {
		return false
	}
	k := s.files[0]
	if err := s.disk.remove(k.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false // the write that needs the space reports the fault
	}
	s.files = s.files[1:]
	if len(s.files) == 0 || s.files[0].dir != k.dir {
		if current.dir != k.dir {
			s.leave(k.dir)
		}
	}
	return true
}

// leave removes a boot's directory. One that holds something strange stays, and is not counted.
func (s *store) leave(dir string) {
	_ = s.disk.remove(dir)
	s.boots = slices.DeleteFunc(s.boots, func(b bootDir) bool { return b.name == dir })
}

// grown records the size of the newest chunk.
func (s *store) grown(k kept) {
	if n := len(s.files); n > 0 && s.files[n-1].path() == k.path() {
		s.files[n-1] = k
		return
	}
	s.files = append(s.files, k)
}

// lastOf returns the newest directory of a boot id.
func (s *store) lastOf(id string) (bootDir, bool) {
	for _, b := range slices.Backward(s.boots) {
		if b.id == id {
			return b, true
		}
	}
	return bootDir{}, false
}

// newBoot creates the directory of a boot, with the next number.
func (s *store) newBoot(boot [16]byte) (string, error) {
	number := 1
	if n := len(s.boots); n > 0 {
		number = s.boots[n-1].number + 1
	}
	for ; number <= maxNumber; number++ {
		name := ring.BootDir(number, boot)
		err := s.disk.mkdir(name)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("create log archive's directory: %w", err)
		}
		_, id, _ := ring.ParseBootDir(name)
		s.boots = append(s.boots, bootDir{name, number, id})
		return name, nil
	}
	last := s.boots[len(s.boots)-1].name
	return "", fmt.Errorf("create log archive's directory: no number is left behind %s: remove that directory",
		path.Join(s.disk.path(), last))
}
