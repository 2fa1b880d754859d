package ring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/log/chunk"
)

// recover reads the directory: it removes broken files, and continues the newest chunk after its last complete record,
// or starts the first chunk.
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
	state, err := chunk.Scan(b)
	if err != nil {
		return dropped, err
	}
	r.take(state)
	if last.packed { // its successor, which was plain, is broken
		return dropped + int64(len(b)-state.Valid), r.rotate()
	}
	if r.file, err = os.OpenFile(r.path(last.first), os.O_RDWR, 0o600); err != nil {
		return dropped, err
	}
	torn := int64(len(b) - state.Valid)
	if torn > 0 {
		err = r.file.Truncate(int64(state.Valid))
	}
	r.chunks[len(r.chunks)-1] = chunkFile{first: last.first, size: int64(state.Valid), base: int64(state.Base)}
	return dropped + torn, err
}

// take continues at the end of the chunk.
func (r *Ring) take(state chunk.Scanned) {
	r.header, r.next = state.Header, state.Seq
	for _, s := range state.Sources {
		// A source that was forgotten and returned is listed twice: its latest cursor counts.
		if known := r.sources[s.Source]; known == nil || known.ID < s.ID {
			r.sources[s.Source] = s
		}
		r.nextID = max(r.nextID, s.ID+1)
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
		half := strings.HasSuffix(name, chunk.Suffix+tmp) // logd ended while it created the file
		if !strings.HasSuffix(name, chunk.Suffix) && !half {
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

// readChunk reads a chunk's header. An error means that the file is useless.
func readChunk(path string) (chunkFile, chunk.Header, error) {
	file, err := os.Open(path)
	if err != nil {
		return chunkFile{}, chunk.Header{}, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return chunkFile{}, chunk.Header{}, err
	}
	c := chunkFile{size: st.Size(), base: chunk.HeaderSize}
	b := make([]byte, chunk.HeaderSize)
	if _, err := file.ReadAt(b, 0); err != nil {
		return c, chunk.Header{}, err
	}
	h, err := chunk.ParseHeader(b)
	if err != nil {
		return c, chunk.Header{}, err
	}
	c.packed = h.Codec != chunk.CodecPlain
	if c.first = h.First; filepath.Base(path) != chunk.FileName(c.first) {
		return c, h, errors.New("read log chunk: name and content differ")
	}
	return c, h, nil
}

// rotate seals the newest chunk and starts the next with the cursors of all sources. The new file is created complete
// or not at all.
func (r *Ring) rotate() error {
	wall, boottime := r.now()
	h := chunk.Header{First: r.next, Boot: r.boot, Wall: wall.UnixMicro(), Boottime: boottime.Microseconds()}
	b := h.Append(nil)
	for _, s := range r.sources {
		b = chunk.AppendSource(b, s)
	}
	r.evict(int64(len(b)))
	path := r.path(h.First)
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
		former.Close() // all bytes are in the memory of the tmpfs already; nothing can fail any more
	}
	r.file, r.header = file, h
	size := int64(len(b))
	r.mu.Lock()
	r.chunks = append(r.chunks, chunkFile{first: h.First, size: size, base: size})
	r.mu.Unlock()
	poke(r.sealed)
	if former != nil {
		poke(r.full)
	}
	return nil
}

// poke sends a value to a channel, unless one waits there already.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write writes b at off. While the file system is full it removes one old chunk after another.
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

// Shrink removes the oldest chunk to free its memory, and returns false if only the newest is left. Readers of the
// removed chunk can finish it.
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

func (r *Ring) last() chunkFile {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chunks[len(r.chunks)-1]
}

// publish sets the committed size of the newest chunk, and wakes waiting readers.
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

func (r *Ring) path(first uint64) string { return filepath.Join(r.dir, chunk.FileName(first)) }
