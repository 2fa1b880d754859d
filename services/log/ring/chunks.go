package ring

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// recover reads the folder: it removes what is broken, takes up the newest chunk behind its last whole record, or
// starts the first one.
func (r *Ring) recover() (dropped int64, err error) {
	if dropped, err = r.list(); err != nil {
		return dropped, err
	}
	if len(r.chunks) == 0 {
		return dropped, r.rotate()
	}
	last := r.last()
	b, err := os.ReadFile(r.path(last.first))
	if err != nil {
		return dropped, err
	}
	state, err := scan(b)
	if err != nil {
		return dropped, err
	}
	r.take(state)
	if last.packed { // its successor, which was plain, is broken
		return dropped + int64(len(b)-state.valid), r.rotate()
	}
	if r.file, err = os.OpenFile(r.path(last.first), os.O_RDWR, 0o600); err != nil {
		return dropped, err
	}
	torn := int64(len(b) - state.valid)
	if torn > 0 {
		err = r.file.Truncate(int64(state.valid))
	}
	r.chunks[len(r.chunks)-1] = chunk{first: last.first, size: int64(state.valid), base: int64(state.base)}
	return dropped + torn, err
}

// take goes on where the chunk ends.
func (r *Ring) take(state scanned) {
	r.header, r.next = state.header, state.seq
	for _, s := range state.sources {
		// A source that was forgotten and came again is there twice: the cursor of its latest life counts.
		if known := r.sources[s.Source]; known == nil || known.id < s.id {
			r.sources[s.Source] = s
		}
		r.nextID = max(r.nextID, s.id+1)
	}
}

// list fills r.chunks from the headers of the files, and removes the files that are no chunk.
func (r *Ring) list() (dropped int64, err error) {
	files, err := os.ReadDir(r.dir) // sorted by name, which is the order of the entries
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		name := file.Name()
		half := strings.HasSuffix(name, suffix+tmp) // a life ended while it was being made; nothing is missing
		if !strings.HasSuffix(name, suffix) && !half {
			continue
		}
		c, _, err := readChunk(filepath.Join(r.dir, name))
		if err != nil {
			if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
				return dropped, err
			}
			if !half {
				dropped += c.size
			}
			continue
		}
		r.chunks = append(r.chunks, c)
	}
	return dropped, nil
}

// readChunk reads a chunk's header. Its error means that the file is not worth keeping.
func readChunk(path string) (chunk, header, error) {
	file, err := os.Open(path)
	if err != nil {
		return chunk{}, header{}, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return chunk{}, header{}, err
	}
	c := chunk{size: st.Size(), base: headerSize}
	b := make([]byte, headerSize)
	if _, err := file.ReadAt(b, 0); err != nil {
		return c, header{}, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return c, header{}, err
	}
	c.packed = h.codec != codecPlain
	if c.first = h.first; filepath.Base(path) != chunkName(c.first) {
		return c, h, errors.New("read log chunk: name and content differ")
	}
	return c, h, nil
}

// scanned is what is left to know of a chunk after all its records have been read.
type scanned struct {
	*decoder
	valid int // bytes up to the end of the last whole record
	base  int // bytes before the first entry
}

// scan reads a whole chunk. Only a broken header is an error; behind the first broken record nothing is looked at.
func scan(b []byte) (scanned, error) {
	h, err := parseHeader(b)
	if err != nil {
		return scanned{}, err
	}
	s := scanned{decoder: newDecoder(h), valid: headerSize, base: headerSize}
	if h.codec != codecPlain {
		s.unpack(b)
		return s, nil
	}
	for s.valid < len(b) {
		payload, n, err := nextPayload(b[s.valid:])
		if err != nil {
			break
		}
		if _, _, err := s.decode(payload, new(Entry)); err != nil {
			break
		}
		s.valid += n
		if s.seq == h.first {
			s.base = s.valid
		}
	}
	return s, nil
}

// unpack is scan for a packed chunk, of which only whole frames are valid.
func (s *scanned) unpack(b []byte) {
	f := newFrames(bytes.NewReader(b), int64(len(b)))
	behind := false // something of a frame was taken in whose end has not been seen
	for {
		payload, err := f.next()
		if err == nil {
			behind = true
			_, _, err = s.decode(payload, new(Entry))
		}
		if err != nil {
			break
		}
		if f.left == 0 && len(f.rest) == 0 {
			s.valid, behind = int(f.off), false
		}
	}
	if behind { // a broken frame must leave neither entries nor sources behind
		s.decoder = newDecoder(s.header)
		s.unpack(b[:s.valid])
	}
}

// rotate seals the newest chunk and starts the next with the cursors of all sources. The new file appears whole or not
// at all.
func (r *Ring) rotate() error {
	wall, boottime := r.now()
	h := header{first: r.next, boot: r.boot, wall: wall.UnixMicro(), boottime: boottime.Microseconds()}
	b := h.append(nil)
	for _, s := range r.sources {
		b = appendSource(b, s)
	}
	r.evict(int64(len(b)))
	path := r.path(h.first)
	file, err := os.OpenFile(path+tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = r.write(file, 0, b)
	if err == nil {
		err = os.Rename(path+tmp, path)
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(path+tmp))
	}
	former := r.file
	if former != nil {
		former.Close() // all was written with pwrite into memory; nothing can fail any more
	}
	r.file, r.header = file, h
	size := int64(len(b))
	r.mu.Lock()
	r.chunks = append(r.chunks, chunk{first: h.first, size: size, base: size})
	r.mu.Unlock()
	poke(r.sealed)
	if former != nil {
		poke(r.full)
	}
	return nil
}

// poke tells whoever listens, unless it has been told already.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write writes b at off. When the file system is full it gives up one old chunk after another.
func (r *Ring) write(file *os.File, off int64, b []byte) error {
	for {
		n, err := file.WriteAt(b, off)
		if !errors.Is(err, unix.ENOSPC) || !r.Shrink() {
			return err
		}
		off, b = off+int64(n), b[n:]
	}
}

// evict removes the oldest chunks until n more bytes fit into the budget.
func (r *Ring) evict(n int64) {
	for r.size()+n > r.limit && r.Shrink() {
	}
}

// Shrink removes the oldest chunk to give its memory back, and reports false if only the newest is left. Readers that
// are in the middle of it finish it.
func (r *Ring) Shrink() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.chunks) < 2 {
		return false
	}
	err := os.Remove(r.path(r.chunks[0].first))
	r.chunks = slices.Delete(r.chunks, 0, 1)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

func (r *Ring) size() (sum int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.chunks {
		sum += c.size
	}
	return sum
}

func (r *Ring) last() chunk {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chunks[len(r.chunks)-1]
}

// publish makes the newest chunk end at size and wakes the readers that wait.
func (r *Ring) publish(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chunks[len(r.chunks)-1].size = size
	r.next += r.waiting
	r.waiting = 0
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *Ring) path(first uint64) string { return filepath.Join(r.dir, chunkName(first)) }

func chunkName(first uint64) string {
	digits := strconv.FormatUint(first, 16)
	return fmt.Sprintf("%s%s%s", strings.Repeat("0", 16-len(digits)), digits, suffix)
}
