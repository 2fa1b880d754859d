// Package ring owns the log ring: the newest lines of every source, kept in a budget of bytes in a directory of a RAM
// file system, where they outlive the process that writes them.
//
// The ring is a row of chunk files (package chunk), each readable by itself. The writer appends checksummed records to
// the newest chunk; a sealed chunk is deflated; when the budget is used up the oldest chunk is removed. A record
// carries the writer's read position in its source (its cursor) next to the line, so that one write makes both durable:
// a writer that was killed at any moment finds in the ring which input it has already read. Chunks of earlier boots can
// be read beside it. The ring never touches flash, never reads a source and never logs. Read Ring first, then Reader.
package ring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

const (
	// DefaultSize is the budget of the device's ring.
	DefaultSize = 8 << 20

	maxChunk   = 256 << 10
	minChunk   = 16 << 10
	maxPending = 64 << 10

	urgent = 3 // err

	tmp = ".tmp" // suffix of the name of a chunk that is being created
)

// A Ring holds the chunks of one directory for its writer, and creates readers. One goroutine calls Append, Commit,
// Report, SetMark, Mark and Forget, another one Pack; any number of readers may exist, each in its own goroutine.
type Ring struct {
	dir   string
	limit int64 // bytes, all chunks together
	chunk int64 // bytes after which a chunk is sealed
	boot  [16]byte
	now   Clock
	lock  *os.File

	// For the writer only: the entries that are not yet in the file, and the newest chunk.
	file    *os.File
	header  chunk.Header
	pending []byte
	waiting uint64 // entries in pending
	sources map[pipe.Source]*chunk.Source
	nextID  uint64
	alarm   bool // an urgent entry is pending

	sealed, full chan struct{} // tell Pack and Full that a chunk was sealed
	urgent       chan struct{}

	mu      sync.Mutex  // guards what follows
	chunks  []chunkFile // oldest first, never empty
	next    uint64      // seq of the next committed entry
	changed chan struct{}
}

// chunk describes one file without its content.
type chunkFile struct {
	first uint64
	size  int64
	base  int64 // bytes of the header and of the sources at the beginning

	packed bool
	kept   bool // could not be packed, and stays plain
}

// Clock is the time stamp of a new chunk.
type Clock func() (wall time.Time, boottime time.Duration)

// Open opens the ring in dir, or creates one there, and locks it: a second Open fails until the first ring is closed or
// its process is dead. Open drops a torn tail and removes broken chunks; dropped counts the bytes of both. The
// directory should be on a tmpfs. boot is the kernel's boot id.
func Open(dir string, limit int64, boot [16]byte, now Clock) (r *Ring, dropped int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, fmt.Errorf("open log ring: %w", err)
	}
	r = &Ring{
		dir: dir, limit: limit, boot: boot, now: now, chunk: min(max(limit/32, minChunk), maxChunk),
		sources: map[pipe.Source]*chunk.Source{},
		sealed:  make(chan struct{}, 1), full: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
	}
	if r.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, 0, fmt.Errorf("open log ring: %w", err)
	}
	if err := unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		r.lock.Close()
		return nil, 0, fmt.Errorf("open log ring %s: in use by another process: %w", dir, err)
	}
	if dropped, err = r.recover(); err != nil {
		r.Close()
		return nil, dropped, fmt.Errorf("open log ring %s: %w", dir, err)
	}
	return r, dropped, nil
}

// Close commits pending entries and unlocks the ring. The chunks stay.
func (r *Ring) Close() error {
	var errs []error
	if r.file != nil {
		errs = append(errs, r.Commit(), r.file.Close())
	}
	return errors.Join(append(errs, r.lock.Close())...)
}

// Mark returns the mark of s; the zero Mark for a new source.
func (r *Ring) Mark(s pipe.Source) chunk.Mark {
	if known := r.sources[s]; known != nil {
		return known.Mark
	}
	return chunk.Mark{}
}

// BootID returns the boot id of new entries, as text.
func (r *Ring) BootID() string { return chunk.BootString(r.boot) }

// Sources returns the sources whose cursors the ring keeps.
func (r *Ring) Sources() []pipe.Source {
	list := make([]pipe.Source, 0, len(r.sources))
	for s := range r.sources {
		list = append(list, s)
	}
	return list
}

// Forget drops the cursor of a source that will not return.
func (r *Ring) Forget(s pipe.Source) { delete(r.sources, s) }

// Append adds an entry whose message is message (e.Message, Seq and Boot are not looked at) and sets the cursor of its
// source. The entry becomes visible and durable with the next Commit; Append commits by itself when much is pending.
// After an error the entry was not added and the cursor is unchanged.
func (r *Ring) Append(e *entry.Entry, message []byte, cursor int64) error {
	return r.add(e, message, cursor, false)
}

// Report is Append for an entry that reports how many lines its source has dropped. It sets the count to 0.
func (r *Ring) Report(e *entry.Entry, message []byte) error {
	return r.add(e, message, r.Mark(e.Source()).Cursor, true)
}

func (r *Ring) add(e *entry.Entry, message []byte, cursor int64, report bool) error {
	if err := r.makeRoom(); err != nil {
		return err
	}
	s := r.sources[e.Source()]
	if s == nil {
		s = r.admit(e.Source())
		r.pending = chunk.AppendSource(r.pending, s)
	}
	step := uint64(cursor) - uint64(s.Cursor)
	r.pending = chunk.AppendEntry(r.pending, r.header, s, e, message[:min(len(message), entry.MaxMessage)], step,
		report)
	s.Cursor = cursor
	r.alarm = r.alarm || e.Priority <= urgent
	if report {
		s.Dropped = 0
	}
	r.waiting++
	return nil
}

// SetMark sets the mark of s without an entry; it too needs a Commit.
func (r *Ring) SetMark(s pipe.Source, m chunk.Mark) error {
	if err := r.makeRoom(); err != nil {
		return err
	}
	known := r.sources[s]
	if known == nil {
		known = r.admit(s)
	}
	known.Mark = m
	r.pending = chunk.AppendSource(r.pending, known)
	return nil
}

func (r *Ring) makeRoom() error {
	if len(r.pending) < maxPending {
		return nil
	}
	return r.Commit()
}

func (r *Ring) admit(name pipe.Source) *chunk.Source {
	s := &chunk.Source{Source: name, ID: r.nextID}
	r.nextID++
	r.sources[name] = s
	return s
}

// Commit writes the pending entries with one system call and makes them visible to readers. If the file system is full
// it first removes the oldest chunks. After an error all entries are still pending, and Commit may be called again.
func (r *Ring) Commit() error {
	if len(r.pending) == 0 {
		return nil
	}
	last := r.last()
	r.evict(int64(len(r.pending)))
	if err := r.write(r.file, last.size, r.pending); err != nil {
		return fmt.Errorf("write log ring: %w", err)
	}
	size := last.size + int64(len(r.pending))
	r.publish(size)
	if r.alarm {
		r.alarm = false
		poke(r.urgent)
	}
	if r.pending = r.pending[:0]; cap(r.pending) > 2*maxPending {
		r.pending = nil
	}
	if size-last.base < r.chunk {
		return nil
	}
	if err := r.rotate(); err != nil {
		return fmt.Errorf("start log chunk: %w", err)
	}
	return nil
}
