package ring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"resinos/services/log/chunk"
)

// Pack deflates sealed chunks until ctx is done, the newest first, because it will be kept longest. It waits while
// there are none. A chunk that cannot be packed stays plain, and failed is called with the reason; rested is called
// whenever none is left, and told whether there were any. If the process is killed, either the plain or the packed
// chunk exists.
func (r *Ring) Pack(ctx context.Context, failed func(error), rested func(worked bool)) {
	var f *chunk.Framer // a megabyte, which is used only while it is needed
	var worked bool
	for {
		first, ok := r.toPack()
		if !ok {
			f = nil
			rested(worked)
			worked = false
			select {
			case <-ctx.Done():
				return
			case <-r.sealed:
			}
			continue
		}
		worked = true
		if f == nil {
			f = chunk.NewFramer()
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
func (r *Ring) pack(ctx context.Context, first uint64, f *chunk.Framer) error {
	path := r.path(first)
	err := chunk.Pack(ctx, path, path+tmp, f)
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
		return nil // it was the oldest and was removed meanwhile
	}
	return err
}

// exchange replaces the plain file by the packed one. Readers of the plain file can finish it.
func (r *Ring) exchange(first uint64, path string) error {
	st, err := os.Stat(path + tmp)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.index(first)
	if i < 0 || st.Size() >= r.chunks[i].size {
		return os.ErrNotExist // the chunk is gone, or packing does not make it smaller
	}
	if err := os.Rename(path+tmp, path); err != nil {
		return err
	}
	r.chunks[i].size, r.chunks[i].packed = st.Size(), true
	return nil
}

// index is called with mu held.
func (r *Ring) index(first uint64) int {
	return slices.IndexFunc(r.chunks, func(c chunkFile) bool { return c.first == first })
}
