package powercut

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"

	"golang.org/x/sys/unix"
)

// A Region is what a judge looks at: a partition, or the partition table.
type Region struct {
	Name   string
	ranges []span // of the disk, in bytes, whole sectors
	base   int64  // the byte of the disk that is byte 0 of the region's file
	size   int64  // of that file
}

type span struct{ start, end int64 }

// A sum stands for the content of a region: equal sums are taken for equal contents. It is kept up to date write by
// write, as the exclusive or of what stands for each sector in its place.
type sum [2]uint64

// scratch is a disk that states are made on: the durable writes are in it, and those of the state at hand.
type scratch struct {
	file    *os.File
	disk    []byte // the file's bytes, shared with it
	regions []Region
	sums    []sum // of each region
	seeds   [2]maphash.Seed
}

// newScratch puts the disk of a recording, as it was before the first write, into a folder.
func newScratch(image, name string, size int64, regions []Region) (*scratch, error) {
	if err := copyDisk(image, name, size); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open scratch disk: %w", err)
	}
	disk, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map scratch disk %s: %w", name, err), f.Close())
	}
	// Sums are compared within one run only, so that the seeds may be any. The first state's are zero.
	return &scratch{f, disk, regions, make([]sum, len(regions)), [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}, nil
}

func (s *scratch) Close() error {
	return errors.Join(unix.Munmap(s.disk), s.file.Close())
}

// put writes whole sectors, and keeps the sums.
func (s *scratch) put(at int64, data []byte) error {
	if at < 0 || at+int64(len(data)) > int64(len(s.disk)) {
		return fmt.Errorf("write %d bytes at byte %d: the disk has %d", len(data), at, len(s.disk))
	}
	old := s.disk[at : at+int64(len(data))]
	for i := int64(0); i < int64(len(data)); i += SectorSize {
		was, is := old[i:i+SectorSize], data[i:i+SectorSize]
		if string(was) == string(is) {
			continue
		}
		if r := s.region(at + i); r >= 0 {
			s.turn(r, at+i, was)
			s.turn(r, at+i, is)
		}
		copy(was, is)
	}
	return nil
}

func (s *scratch) region(at int64) int {
	for i, r := range s.regions {
		for _, part := range r.ranges {
			if at >= part.start && at < part.end {
				return i
			}
		}
	}
	return -1
}

// turn takes a sector into a sum, or out of it.
func (s *scratch) turn(region int, at int64, sector []byte) {
	for i, seed := range s.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		var place [8]byte
		for b := range place {
			place[b] = byte(at >> (8 * b))
		}
		_, _ = h.Write(place[:]) // a hash takes everything
		_, _ = h.Write(sector)
		s.sums[region][i] ^= h.Sum64()
	}
}

// copyRegion writes a region as a file of its own, sparse.
func (s *scratch) copyRegion(r Region, name string) error {
	to, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("make file of region %s: %w", r.Name, err)
	}
	defer to.Close() // a scratch file; what counts is checked below
	if err := to.Truncate(r.size); err != nil {
		return fmt.Errorf("make file of region %s: %w", r.Name, err)
	}
	for _, part := range r.ranges {
		err := eachExtent(s.file, part.start, part.end, func(start, end int64) error {
			_, err := to.WriteAt(s.disk[start:end], start-r.base)
			return err
		})
		if err != nil {
			return fmt.Errorf("copy region %s: %w", r.Name, err)
		}
	}
	return nil
}

// An epochView makes the states of one epoch on a scratch disk.
type epochView struct {
	disk  *scratch
	where []int64  // byte of the disk, of each write
	data  [][]byte // of each write
	old   [][]byte // what was there before the epoch
}

func (s *scratch) view(l *Log, e Epoch) (*epochView, error) {
	v := &epochView{disk: s}
	for _, n := range e.Writes {
		entry := l.Entries[n]
		if entry.Sector+entry.Sectors > int64(len(s.disk))/SectorSize {
			return nil, fmt.Errorf("entry %d: sectors %d to %d lie beyond the disk's end", n, entry.Sector, entry.Sector+entry.Sectors)
		}
		data, err := l.Data(entry)
		if err != nil {
			return nil, err
		}
		at := entry.Sector * SectorSize
		v.where, v.data = append(v.where, at), append(v.data, data)
		v.old = append(v.old, append([]byte(nil), s.disk[at:at+int64(len(data))]...))
	}
	return v, nil
}

// show makes one state out of another: what only the first has is taken off, what only the second has is put on, and
// where writes overlap the later one wins again. Both are in the order of the writes.
func (v *epochView) show(was, is []piece) error {
	had, wanted := set(was), set(is)
	var touched []span
	for _, p := range was {
		if wanted[p] {
			continue
		}
		if err := v.lay(p, v.old); err != nil {
			return err
		}
		touched = append(touched, v.span(p))
	}
	for _, p := range is {
		if had[p] && !overlaps(v.span(p), touched) {
			continue
		}
		if err := v.lay(p, v.data); err != nil {
			return err
		}
		touched = append(touched, v.span(p))
	}
	return nil
}

func set(pieces []piece) map[piece]bool {
	all := make(map[piece]bool, len(pieces))
	for _, p := range pieces {
		all[p] = true
	}
	return all
}

func (v *epochView) span(p piece) span {
	return span{v.where[p.write] + p.from*SectorSize, v.where[p.write] + p.to*SectorSize}
}

func overlaps(one span, others []span) bool {
	for _, o := range others {
		if one.start < o.end && o.start < one.end {
			return true
		}
	}
	return false
}

func (v *epochView) lay(p piece, what [][]byte) error {
	from, to := p.from*SectorSize, p.to*SectorSize
	return v.disk.put(v.where[p.write]+from, what[p.write][from:to])
}
