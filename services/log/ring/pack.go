package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// packPause is what the packer waits after each frame, so that a process with one processor gets to its input.
const packPause = time.Millisecond

// Pack deflates sealed chunks until ctx is done, the newest first: it is the one that stays longest. It waits while
// there are none. A chunk that cannot be packed stays as it is, and failed is told why; rested is called each time all
// is done. Killed at any moment, it leaves the plain chunk or the packed one.
func (r *Ring) Pack(ctx context.Context, failed func(error), rested func()) {
	var f *framer // a megabyte, which is there only while it is needed
	for {
		first, ok := r.toPack()
		if !ok {
			f = nil
			rested()
			select {
			case <-ctx.Done():
				return
			case <-r.sealed:
			}
			continue
		}
		if f == nil {
			f = newFramer()
		}
		err := r.pack(ctx, first, f)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f = nil
			failed(fmt.Errorf("pack log chunk: %w", err))
		}
	}
}

// toPack returns the newest chunk that is sealed and plain.
func (r *Ring) toPack() (first uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.chunks) - 2; i >= 0; i-- {
		if c := r.chunks[i]; !c.packed && !c.kept {
			return c.first, true
		}
	}
	return 0, false
}

// pack replaces a chunk by its packed form.
func (r *Ring) pack(ctx context.Context, first uint64, f *framer) error {
	path := r.path(first)
	err := packTo(ctx, path, path+tmp, f)
	if err == nil {
		if err = r.exchange(first, path); err == nil {
			return nil
		}
	}
	r.mu.Lock()
	if i := r.index(first); i >= 0 {
		r.chunks[i].kept = true
	}
	r.mu.Unlock()
	if removed := os.Remove(path + tmp); !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was the oldest and went meanwhile
	}
	return err
}

// exchange puts the packed file in the place of the plain one. Readers of the plain one finish it.
func (r *Ring) exchange(first uint64, path string) error {
	st, err := os.Stat(path + tmp)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.index(first)
	if i < 0 || st.Size() >= r.chunks[i].size {
		return os.ErrNotExist // gone, or not worth it
	}
	if err := os.Rename(path+tmp, path); err != nil {
		return err
	}
	r.chunks[i].size, r.chunks[i].packed = st.Size(), true
	return nil
}

// index is called with mu held.
func (r *Ring) index(first uint64) int {
	return slices.IndexFunc(r.chunks, func(c chunk) bool { return c.first == first })
}

// packTo writes the packed form of the plain chunk from to the file to.
func packTo(ctx context.Context, from, to string, f *framer) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(packFile(ctx, in, out, f), out.Close())
}

func packFile(ctx context.Context, in, out *os.File, f *framer) error {
	st, err := in.Stat()
	if err != nil {
		return err
	}
	src := &records{file: in}
	h, err := src.begin()
	if err != nil {
		return err
	}
	if _, err := out.Write(make([]byte, headerSize)); err != nil {
		return err
	}
	for {
		payload, err := src.next(st.Size())
		if errors.Is(err, io.EOF) && len(src.rest) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("behind %d entries: %w", h.entries, err)
		}
		if payload[0] == kindEntry {
			h.entries++
		}
		full, err := f.add(payload)
		if full && err == nil {
			if err = f.finish(out); err == nil {
				err = rest(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := f.finish(out); err != nil {
		return err
	}
	h.codec = codecPacked
	_, err = out.WriteAt(h.append(nil), 0)
	return err
}

// rest lets the others have the processor.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(packPause):
		return nil
	}
}
