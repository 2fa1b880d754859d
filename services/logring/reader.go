package logring

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
)

// window is the part of a chunk that a reader holds in memory; it takes any record whole.
const window = 32 << 10

// A Reader walks over the entries of a ring, oldest first, and goes on when more have come. It belongs to one goroutine.
type Reader struct {
	// Keep, if not nil, says whether Next returns an entry. It sees the entry without its message.
	Keep func(*Entry) bool
	// Until ends the walk before an entry; NewReader sets it beyond all.
	Until uint64
	// Skipped counts entries that the reader wanted but that were gone, or lost with a broken chunk.
	Skipped uint64

	ring *Ring
	seq  uint64 // of the entry wanted next

	file   *os.File // nil: find the chunk of seq
	first  uint64   // the chunk's name
	sealed bool     // nothing will be added to the chunk
	end    uint64   // the ring's next seq when the reader came to the end of the chunk
	dec    *decoder
	off    int64  // in the file, of rest's end
	rest   []byte // read but not decoded, part of buf
	buf    []byte
}

// NewReader returns a reader whose first entry is from, or the oldest one that is still there. Close it after use.
func (r *Ring) NewReader(from uint64) *Reader {
	return &Reader{ring: r, seq: from, Until: math.MaxUint64}
}

// Oldest and Next bound the seqs of the entries that are there: Oldest <= seq < Next.
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

// Tail returns the seq from which on a reader with keep meets the last n entries that it keeps.
func (r *Ring) Tail(n int, keep func(*Entry) bool) (uint64, error) {
	r.mu.Lock()
	firsts := make([]uint64, len(r.chunks))
	for i, c := range r.chunks {
		firsts[i] = c.first
	}
	end := r.next
	r.mu.Unlock()
	if n <= 0 {
		return end, nil
	}
	for i := len(firsts) - 1; i >= 0; i-- {
		kept, err := r.keptIn(firsts[i], end, keep)
		if err != nil {
			return 0, err
		}
		if len(kept) >= n {
			return kept[len(kept)-n], nil
		}
		n -= len(kept)
		end = firsts[i]
	}
	return firsts[0], nil
}

// keptIn returns the seqs from first up to, without, end that keep wants.
func (r *Ring) keptIn(first, end uint64, keep func(*Entry) bool) ([]uint64, error) {
	rd := r.NewReader(first)
	defer rd.Close()
	rd.Until = end
	var kept []uint64
	rd.Keep = func(e *Entry) bool {
		if keep == nil || keep(e) {
			kept = append(kept, e.Seq)
		}
		return false
	}
	_, err := rd.Next(new(Entry))
	return kept, err
}

// Seq returns the seq of the entry that the next call of Next looks at first; wait on Ring.Changed with it.
func (rd *Reader) Seq() uint64 { return rd.seq }

// Close gives the reader's file back.
func (rd *Reader) Close() error {
	if rd.file == nil {
		return nil
	}
	file := rd.file
	rd.file = nil
	return file.Close()
}

// Next sets e to the next entry. It returns false, and no error, at the end of what has been committed; more may come.
func (rd *Reader) Next(e *Entry) (bool, error) {
	for rd.seq < rd.Until {
		if rd.file == nil {
			if found, err := rd.open(); !found || err != nil {
				return false, err
			}
		}
		payload, err := rd.payload()
		var message []byte
		var isEntry bool
		if err == nil {
			message, isEntry, err = rd.dec.decode(payload, e)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, errCorrupt):
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

// open opens the chunk that holds rd.seq. It reports false if that entry has not been written yet.
func (rd *Reader) open() (bool, error) {
	for {
		first, ok := rd.ring.find(rd.seq)
		if !ok {
			return false, nil
		}
		file, err := os.Open(rd.ring.path(first))
		if again, _ := rd.ring.find(rd.seq); again != first && errors.Is(err, os.ErrNotExist) {
			continue // it was the oldest and went just now
		}
		if err != nil {
			return false, fmt.Errorf("read log ring: %w", err)
		}
		head := make([]byte, headerSize)
		if _, err := file.ReadAt(head, 0); err != nil {
			return false, errors.Join(fmt.Errorf("read log ring: %w", err), file.Close())
		}
		h, err := parseHeader(head)
		if err != nil {
			return false, errors.Join(err, file.Close())
		}
		if rd.buf == nil {
			rd.buf = make([]byte, window)
		}
		rd.file, rd.first, rd.sealed, rd.dec = file, first, false, newDecoder(h)
		rd.off, rd.rest = headerSize, nil
		if first > rd.seq {
			rd.Skipped += first - rd.seq
			rd.seq = first
		}
		return true, nil
	}
}

// payload returns the next record's payload, or io.EOF behind the last whole record of the chunk.
func (rd *Reader) payload() ([]byte, error) {
	for {
		payload, n, err := nextPayload(rd.rest)
		if err == nil {
			rd.rest = rd.rest[n:]
			return payload, nil
		}
		limit, end, statErr := rd.ring.extent(rd.first, rd.file)
		if statErr != nil {
			return nil, statErr
		}
		rd.end = end
		if !errors.Is(err, errShort) {
			return nil, err
		}
		kept := copy(rd.buf, rd.rest)
		room := min(int64(len(rd.buf)-kept), limit-rd.off)
		if room <= 0 {
			rd.rest = rd.buf[:kept]
			return nil, io.EOF
		}
		got, err := rd.file.ReadAt(rd.buf[kept:kept+int(room)], rd.off)
		rd.off += int64(got)
		rd.rest = rd.buf[:kept+got]
		if got == 0 {
			return nil, err
		}
	}
}

// leave goes to the next chunk, or once more over the end of this one if it has been sealed meanwhile. It counts what
// the chunk should have held, and reports false if there is no next chunk yet.
func (rd *Reader) leave() bool {
	next, ok := rd.ring.after(rd.first)
	if ok && !rd.sealed {
		rd.sealed = true
		return true
	}
	if !ok {
		next = rd.end
	}
	if next > rd.seq {
		rd.Skipped += next - rd.seq
		rd.seq = next
	}
	if ok {
		rd.Close() // opened for reading: nothing to lose
	}
	return ok
}

// find returns the chunk that holds seq, or the oldest if seq is gone.
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

// extent returns how many bytes of a chunk are committed, and the ring's next seq at that moment. A chunk that is gone
// from the ring was sealed.
func (r *Ring) extent(first uint64, file *os.File) (size int64, next uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.chunks {
		if c.first == first {
			return c.size, r.next, nil
		}
	}
	st, err := file.Stat()
	if err != nil {
		return 0, 0, err
	}
	return st.Size(), r.next, nil
}
