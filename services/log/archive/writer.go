package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"time"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/ring"
)

const (
	// A chunk has a thirty-second part of the budget, within limits. It is what is removed at once when the budget is
	// used up.
	maxChunk = 256 << 10
	minChunk = 16 << 10

	// pause is the pause of a flush after each frame, so that logd, which uses one processor, can read its input.
	pause = time.Millisecond
)

// errGone reports that somebody has removed the chunk that is being written.
var errGone = errors.New("log archive was removed")

// A writer appends this boot's entries to the newest chunk. A new chunk is written aside, synced and renamed; later
// frames are appended to it in place and synced: a frame that a power cut has torn has a wrong checksum and is ignored.
//
//	flush: entries of the ring, from next on -> frames -> write ... write, fdatasync
//	a new chunk, besides: rename, fsync of the directories
type writer struct {
	store *store
	log   *slog.Logger
	boot  [16]byte
	chunk int64 // bytes after which a new one is begun

	dir  string // of this boot; "" until it is made
	next uint64 // all entries before it are on flash
	made bool   // the directory's own name may not be on flash yet

	growth *chunk.Growth // nil: the next entry begins a chunk
	file   file
	name   string // in dir
	aside  bool   // the file has not got its name yet
	size   int64  // written
	synced int64  // on flash
}

// newWriter continues where the boot's last writer ended, which it finds out from flash alone. It owns d if it
// succeeds.
func newWriter(d disk, c Config) (*writer, error) {
	s, err := openStore(d, c.Bytes, c.Log)
	if err != nil {
		return nil, err
	}
	w := &writer{store: s, log: c.Log, boot: c.Boot, chunk: min(max(c.Bytes/32, minChunk), maxChunk)}
	boot, found := s.lastOf(c.Ring.BootID())
	if !found {
		return w, nil
	}
	w.dir = boot.name
	if err := w.resume(); err != nil {
		w.leaveChunk()
		return nil, err
	}
	if w.next > c.Ring.Next() { // it is another ring of the same boot: somebody has removed the first one
		w.leaveChunk()
		w.dir, w.next = "", 0
	}
	return w, nil
}

// resume finds the end of what the boot has on flash.
func (w *writer) resume() error {
	for _, k := range slices.Backward(w.store.files) {
		if k.dir != w.dir {
			continue
		}
		b, err := w.store.disk.read(k.path())
		if err != nil {
			return fmt.Errorf("read log archive: %w", err)
		}
		g, whole, err := chunk.Regrow(w.boot, b)
		if err != nil {
			continue // it was logged as strange; its entries are written again, if the ring still has them
		}
		w.next = g.Next()
		if whole >= w.chunk {
			return nil
		}
		f, err := w.store.disk.open(k.path())
		if err != nil {
			return fmt.Errorf("open log archive: %w", err)
		}
		w.growth, w.file, w.name, w.size, w.synced = g, f, k.name, whole, whole
		if torn := k.size - whole; torn > 0 {
			w.log.Warn("torn end of the log archive dropped", "size", torn)
			if err := f.Truncate(whole); err != nil {
				return fmt.Errorf("write log archive: %w", err)
			}
		}
		w.store.grown(kept{w.dir, k.name, whole})
		return nil
	}
	return nil
}

// flush writes all committed entries of the ring to flash.
func (w *writer) flush(ctx context.Context, from *ring.Ring) error {
	if w.file != nil && !w.file.same(w.current().path()) {
		return errGone
	}
	rd := from.NewReader(w.next)
	defer rd.Close()
	rd.Until = from.Next()
	var e entry.Entry
	for {
		found, err := rd.Next(&e)
		if err != nil {
			return err
		}
		if !found {
			return w.settle()
		}
		if err := w.add(ctx, &e); err != nil {
			return err
		}
	}
}

// add adds one entry to the chunk; after a gap, and when the chunk is large enough, to a new chunk.
func (w *writer) add(ctx context.Context, e *entry.Entry) error {
	if w.growth != nil && (w.growth.Next() != e.Seq || w.size >= w.chunk) {
		if err := w.settle(); err != nil {
			return err
		}
		w.leaveChunk()
	}
	if w.growth == nil {
		if err := w.begin(e); err != nil {
			return err
		}
	}
	full, err := w.growth.Add(e)
	if err != nil || !full {
		return err
	}
	if err := w.put(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
	return nil
}

// begin starts a chunk with e.
func (w *writer) begin(e *entry.Entry) (err error) {
	if w.dir == "" {
		if w.dir, err = w.store.newBoot(w.boot); err != nil {
			return err
		}
		w.made = true
	}
	name := chunk.FileName(e.Seq)
	f, err := w.store.disk.create(path.Join(w.dir, name+aside))
	if err != nil {
		return fmt.Errorf("write log archive: %w", err)
	}
	w.growth, w.file, w.name, w.aside, w.size, w.synced = chunk.Grow(w.boot, e), f, name, true, 0, 0
	return nil
}

// put writes the added entries.
func (w *writer) put() error {
	b, err := w.growth.Take()
	if err != nil || len(b) == 0 {
		return err
	}
	w.store.evict(w.size+int64(len(b))-w.synced, w.current())
	if _, err := w.file.WriteAt(b, w.size); err != nil {
		return fmt.Errorf("write log archive: %w", err)
	}
	w.size += int64(len(b))
	return nil
}

// settle returns when all added entries are on flash.
func (w *writer) settle() error {
	if w.growth == nil {
		return nil
	}
	if err := w.put(); err != nil || w.size == w.synced {
		return err
	}
	w.growth.Rest()
	if err := w.file.sync(); err != nil {
		return fmt.Errorf("write log archive: %w", err)
	}
	if w.aside {
		if err := w.show(); err != nil {
			return fmt.Errorf("write log archive: %w", err)
		}
	}
	w.store.grown(kept{w.dir, w.name, w.size})
	w.synced, w.next = w.size, w.growth.Next()
	return nil
}

// show gives a new chunk its final name.
func (w *writer) show() error {
	to := path.Join(w.dir, w.name)
	if err := w.store.disk.rename(to+aside, to); err != nil {
		return err
	}
	w.aside = false
	if err := w.store.disk.sync(w.dir); err != nil {
		return err
	}
	if w.made {
		if err := w.store.disk.sync("."); err != nil {
			return err
		}
		w.made = false
	}
	return nil
}

// current returns the name of the chunk that is being written.
func (w *writer) current() kept {
	name := w.name
	if w.aside {
		name += aside
	}
	return kept{w.dir, name, w.size}
}

// undo removes bytes that are written but not known to be on flash, as far as the disk allows it, because the next
// writer would count them.
func (w *writer) undo() {
	switch {
	case w.file == nil:
	case w.aside || w.synced == 0:
		_ = w.store.disk.remove(w.current().path())
	default:
		_ = w.file.Truncate(w.synced)
	}
}

func (w *writer) leaveChunk() {
	if w.file != nil {
		_ = w.file.Close() // all bytes that count were synced
	}
	w.growth, w.file, w.name, w.aside, w.size, w.synced = nil, nil, "", false, 0, 0
}

func (w *writer) close() {
	w.leaveChunk()
	_ = w.store.disk.close() // read only
}
