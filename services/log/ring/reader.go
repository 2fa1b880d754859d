package ring

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
)

// pressing is the number of sealed chunks after which Presses is true: a megabyte in the device's ring.
const pressing = 4

// row is a row of chunks that a reader reads: the ring, or the log of an earlier boot.
type row interface {
	// path returns the path of the chunk whose first entry is first.
	path(first uint64) string
	// find returns the chunk with seq, or the oldest if seq is gone; not ok if seq has not been written yet.
	find(seq uint64) (first uint64, ok bool)
	// after returns the chunk that follows another one, which may be gone.
	after(first uint64) (next uint64, ok bool)
	// extent returns how many bytes of a chunk are committed, and the seq after the row's last entry, 0 if it is not
	// known.
	extent(first uint64, file *os.File) (size int64, next uint64, err error)
}

// A Reader reads the entries of a ring or of an earlier boot, oldest first, and continues with later ones. It belongs
// to one goroutine.
type Reader struct {
	// Keep, if not nil, decides whether Next returns an entry. It gets the entry without its message.
	Keep func(*entry.Entry) bool
	// Until is the entry before which the reader ends; NewReader sets it after all entries.
	Until uint64
	// Skipped counts entries that were gone before the reader read them, or lost with a broken chunk.
	Skipped uint64

	row row
	seq uint64 // of the entry wanted next

	open   bool   // false: find the chunk of seq first
	first  uint64 // the chunk's name
	sealed bool   // nothing will be added to the chunk
	packed bool   // frames is used, not plain
	limit  int64  // bytes of the chunk that are known to be committed
	end    uint64 // the row's next seq when the reader reached the end of the chunk
	dec    *chunk.Decoder
	plain  chunk.Records // its file is the chunk's
	frames *chunk.Frames
}

// NewReader returns a reader whose first entry is from, or the oldest existing one. Close it after use.
func (r *Ring) NewReader(from uint64) *Reader {
	return newReader(r, from)
}

func newReader(r row, from uint64) *Reader { return &Reader{row: r, seq: from, Until: math.MaxUint64} }

// Oldest and Next are the limits of the seqs of existing entries: Oldest <= seq < Next.
func (r *Ring) Oldest() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chunks[0].first
}

// Next returns the seq of the entry that will be committed next.
func (r *Ring) Next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Urgent gets a value when an entry of priority 3 (err) or more urgent has been committed, Full when a chunk has been
// sealed. Both are for one receiver, and hold one value.
func (r *Ring) Urgent() <-chan struct{} { return r.urgent }

// Full is described at Urgent.
func (r *Ring) Full() <-chan struct{} { return r.full }

// Presses reports whether the entries from seq on fill so many chunks that an archive should write them soon, before
// the ring removes them. They are then enough for one write.
func (r *Ring) Presses(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].first > seq })
	sealed := len(r.chunks) - max(i, 1)
	return int64(sealed) >= min(max(r.limit/r.chunk/4, 1), pressing)
}

// Changed returns a channel that is closed as soon as the ring has entries from seq on. The writer closes it.
func (r *Ring) Changed(seq uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next > seq {
		done := make(chan struct{})
		close(done)
		return done
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// Tail returns the seq from which a reader with keep returns the last n entries, and how many there are.
func (r *Ring) Tail(n int, keep func(*entry.Entry) bool) (from uint64, found int, err error) {
	r.mu.Lock()
	firsts := make([]uint64, len(r.chunks))
	for i, c := range r.chunks {
		firsts[i] = c.first
	}
	end := r.next
	r.mu.Unlock()
	return tail(r, firsts, end, n, keep)
}

func tail(r row, firsts []uint64, end uint64, n int, keep func(*entry.Entry) bool) (from uint64, found int, err error) {
	if n <= 0 {
		return end, 0, nil
	}
	rd := newReader(r, 0)
	defer rd.Close()
	for i := len(firsts) - 1; i >= 0; i-- {
		if firsts[i] >= end {
			continue
		}
		kept, err := rd.kept(firsts[i], end, keep)
		if err != nil {
			return 0, 0, err
		}
		if found += len(kept); found >= n {
			return kept[found-n], n, nil
		}
		end = firsts[i]
	}
	return end, found, nil
}

// kept returns the seqs from first to before end that keep accepts.
func (rd *Reader) kept(first, end uint64, keep func(*entry.Entry) bool) ([]uint64, error) {
	rd.Close() // opened for reading: nothing to lose
	rd.seq, rd.Until = first, end
	var kept []uint64
	rd.Keep = func(e *entry.Entry) bool {
		if keep == nil || keep(e) {
			kept = append(kept, e.Seq)
		}
		return false
	}
	_, err := rd.Next(new(entry.Entry))
	return kept, err
}

// Seq returns the seq of the entry that the next call of Next looks at first; wait on Ring.Changed with it.
func (rd *Reader) Seq() uint64 { return rd.seq }

// Close closes the reader's file.
func (rd *Reader) Close() error {
	if !rd.open {
		return nil
	}
	rd.open = false
	return rd.plain.File.Close()
}

// Next sets e to the next entry. At the end of the committed entries it returns false and no error; more may follow.
func (rd *Reader) Next(e *entry.Entry) (bool, error) {
	for rd.seq < rd.Until {
		if !rd.open {
			if found, err := rd.enter(); !found || err != nil {
				return false, err
			}
		}
		payload, err := rd.payload()
		var message []byte
		var isEntry bool
		if err == nil {
			message, isEntry, err = rd.dec.Decode(payload, e)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, chunk.ErrCorrupt):
			if !rd.leave() {
				return false, nil
			}
			continue
		case err != nil:
			return false, fmt.Errorf("read log ring: %w", err)
		case !isEntry || e.Seq < rd.seq:
			continue
		}
		rd.seq = e.Seq + 1
		if rd.Keep == nil || rd.Keep(e) {
			e.Message = string(message)
			return true, nil
		}
	}
	return false, nil
}

// enter opens the chunk with rd.seq. It returns false if that entry has not been written yet.
func (rd *Reader) enter() (bool, error) {
	for {
		first, ok := rd.row.find(rd.seq)
		if !ok {
			return false, nil
		}
		file, err := os.Open(rd.row.path(first))
		if errors.Is(err, os.ErrNotExist) {
			if again, _ := rd.row.find(rd.seq); again != first {
				continue // it was the oldest and was just removed
			}
			next, ok := rd.row.after(first)
			if !ok {
				return false, nil
			}
			rd.skip(next)
			continue
		}
		if err != nil {
			return false, fmt.Errorf("read log ring: %w", err)
		}
		rd.plain.File = file
		if err := rd.begin(); err != nil {
			return false, errors.Join(fmt.Errorf("read log ring: %w", err), file.Close())
		}
		rd.open, rd.first, rd.sealed = true, first, false
		rd.skip(first)
		return true, nil
	}
}

// begin prepares for the records of the chunk that was opened.
func (rd *Reader) begin() error {
	h, err := rd.plain.Begin()
	if err != nil {
		return err
	}
	rd.dec, rd.limit = chunk.NewDecoder(h), 0
	if rd.packed = h.Codec != chunk.CodecPlain; !rd.packed {
		return nil
	}
	st, err := rd.plain.File.Stat()
	if err != nil {
		return err
	}
	if rd.frames == nil {
		rd.frames = chunk.NewFrames(rd.plain.File, st.Size())
	}
	rd.frames.Reset(rd.plain.File, st.Size())
	return nil
}

// payload returns the next record's payload, or io.EOF after the last complete record of the chunk.
func (rd *Reader) payload() ([]byte, error) {
	for {
		var payload []byte
		var err error
		if rd.packed {
			payload, err = rd.frames.Next()
		} else {
			payload, err = rd.plain.Next(rd.limit)
		}
		if err == nil {
			return payload, nil
		}
		limit, end, failed := rd.row.extent(rd.first, rd.plain.File)
		if failed != nil {
			return nil, failed
		}
		rd.end = end
		if rd.packed || limit == rd.limit || !errors.Is(err, io.EOF) {
			return nil, err
		}
		rd.limit = limit
	}
}

// leave moves to the next chunk, or reads the end of this one again if it has been sealed meanwhile. It counts the
// entries that the chunk should have had, and returns false if there is no next chunk yet.
func (rd *Reader) leave() bool {
	next, ok := rd.row.after(rd.first)
	if ok && !rd.sealed {
		rd.sealed = true
		return true
	}
	if !ok {
		next = rd.end
	}
	rd.skip(next)
	if ok {
		rd.Close() // opened for reading: nothing to lose
	}
	return ok
}

// skip counts the missing entries before seq.
func (rd *Reader) skip(seq uint64) {
	if seq > rd.seq {
		rd.Skipped += seq - rd.seq
		rd.seq = seq
	}
}

// find returns the chunk with seq, or the oldest if seq is gone.
func (r *Ring) find(seq uint64) (first uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= r.next {
		return 0, false
	}
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].first > seq })
	return r.chunks[max(i-1, 0)].first, true
}

// after returns the chunk that follows another one, which may be gone.
func (r *Ring) after(first uint64) (next uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := sort.Search(len(r.chunks), func(i int) bool { return r.chunks[i].first > first })
	if i == len(r.chunks) {
		return 0, false
	}
	return r.chunks[i].first, true
}

// extent returns how many bytes of a chunk are committed, and the ring's next seq at that moment. Every chunk but the
// newest is committed as a whole. A reader may still read the plain form of a chunk that has been packed.
func (r *Ring) extent(first uint64, file *os.File) (size int64, next uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if newest := r.chunks[len(r.chunks)-1]; newest.first == first {
		return newest.size, r.next, nil
	}
	st, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	return st.Size(), r.next, nil
}
