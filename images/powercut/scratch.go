package powercut

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"

	"golang.org/x/sys/unix"

	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
)

// A sum stands for the content of a region: equal sums are taken for equal contents. It is kept up to date write by
// write, as the exclusive or of what stands for each sector in its place.
type sum [2]uint64

// scratch is a disk that states are made on: the durable writes are in it, and those of the state at hand.
type scratch struct {
	file    *os.File
	disk    []byte // the file's bytes, shared with it
	regions []judge.Region
	sums    []sum // of each region
	seeds   [2]maphash.Seed
}

// newScratch puts the disk of a recording, as it was before the first write, into a directory.
func newScratch(image, name string, size int64, regions []judge.Region) (*scratch, error) {
	if err := recording.CopyDisk(image, name, size); err != nil {
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
	return &scratch{f, disk, regions, make([]sum, len(regions)),
		[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}, nil
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
	for i := int64(0); i < int64(len(data)); i += recording.SectorSize {
		was, is := old[i:i+recording.SectorSize], data[i:i+recording.SectorSize]
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
		for _, part := range r.Ranges {
			if at >= part.Start && at < part.End {
				return i
			}
		}
	}
	return -1
}

// turn takes a sector into the sum of its region, or out of it.
func (s *scratch) turn(region int, at int64, sector []byte) { s.turnIn(&s.sums[region], at, sector) }

func (s *scratch) turnIn(total *sum, at int64, sector []byte) {
	for i, seed := range s.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		var place [8]byte
		for b := range place {
			place[b] = byte(at >> (8 * b))
		}
		_, _ = h.Write(place[:]) // a hash takes everything
		_, _ = h.Write(sector)
		total[i] ^= h.Sum64()
	}
}

// contents returns the verdicts of a region that are known by its content. The disk must be as in the image still.
func (s *scratch) contents(r judge.Region, all []judge.Content) (map[sum]*judge.Verdict, error) {
	known := map[sum]*judge.Verdict{}
	for _, c := range all {
		if c.Region != r.Name {
			continue
		}
		total, err := s.sumOf(r, c)
		if err != nil {
			return nil, err
		}
		known[total] = &c.Verdict
	}
	return known, nil
}

// sumOf is the sum that a region has when it holds a content.
func (s *scratch) sumOf(r judge.Region, c judge.Content) (total sum, err error) {
	if c.Size > r.Size {
		return total, fmt.Errorf("content of region %s: %d bytes, the region has %d", r.Name, c.Size, r.Size)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return total, err
	}
	defer f.Close() // read only: closing cannot lose anything
	const sector, step = recording.SectorSize, 1 << 20
	buf := make([]byte, step)
	for done := int64(0); done < c.Size; done += step {
		part := buf[:min(step, c.Size-done)]
		if _, err := f.ReadAt(part, c.Base+done); err != nil {
			return total, fmt.Errorf("read content of region %s: %w", r.Name, err)
		}
		for i := int64(0); i < int64(len(part)); i += sector {
			at := r.Base + done + i
			if was, is := s.disk[at:at+sector], part[i:i+sector]; string(was) != string(is) {
				s.turnIn(&total, at, was)
				s.turnIn(&total, at, is)
			}
		}
	}
	return total, nil
}

// copyRegion writes a region as a file of its own, sparse.
func (s *scratch) copyRegion(r judge.Region, name string) error {
	to, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("make file of region %s: %w", r.Name, err)
	}
	defer to.Close() // a scratch file; what counts is checked below
	if err := to.Truncate(r.Size); err != nil {
		return fmt.Errorf("make file of region %s: %w", r.Name, err)
	}
	for _, part := range r.Ranges {
		err := recording.EachExtent(s.file, part.Start, part.End, func(start, end int64) error {
			_, err := to.WriteAt(s.disk[start:end], start-r.Base)
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

func (s *scratch) view(l *recording.Log, e recording.Epoch) (*epochView, error) {
	v := &epochView{disk: s}
	for _, n := range e.Writes {
		entry := l.Entries[n]
		if entry.Sector+entry.Sectors > int64(len(s.disk))/recording.SectorSize {
			return nil, fmt.Errorf("entry %d: sectors %d to %d lie beyond the disk's end", n, entry.Sector,
				entry.Sector+entry.Sectors)
		}
		data, err := l.Data(entry)
		if err != nil {
			return nil, err
		}
		at := entry.Sector * recording.SectorSize
		v.where, v.data = append(v.where, at), append(v.data, data)
		v.old = append(v.old, append([]byte(nil), s.disk[at:at+int64(len(data))]...))
	}
	return v, nil
}

// show makes one state out of another: what only the first has is taken off, what only the second has is put on, and
// where writes overlap the later one wins again. Both are in the order of the writes.
func (v *epochView) show(was, is []piece) error {
	had, wanted := set(was), set(is)
	var touched []judge.Span
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

func (v *epochView) span(p piece) judge.Span {
	return judge.Span{Start: v.where[p.write] + p.from*recording.SectorSize,
		End: v.where[p.write] + p.to*recording.SectorSize}
}

func overlaps(one judge.Span, others []judge.Span) bool {
	for _, o := range others {
		if one.Start < o.End && o.Start < one.End {
			return true
		}
	}
	return false
}

func (v *epochView) lay(p piece, what [][]byte) error {
	from, to := p.from*recording.SectorSize, p.to*recording.SectorSize
	return v.disk.put(v.where[p.write]+from, what[p.write][from:to])
}
