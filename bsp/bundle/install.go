package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"resinos/bsp/bundle/index"
)

// Slot is the idle slot: the block device of its partition, or a file. Sync must put what was written onto the disk,
// and should drop the pages from memory, because Install reads everything again after the last Sync.
type Slot interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Progress says how far an installation is. Sizes are bytes of the slot, except Fetched.
type Progress struct {
	Phase   Phase
	Done    int64 // of Total, in this phase
	Total   int64
	Kept    int64 // were in the idle slot already
	Copied  int64 // were taken from the running slot
	Fetched int64 // stored bytes that were read from the source
}

// Phase is a part of an installation.
type Phase string

// The phases, in their order. Only Write changes the slot.
const (
	Compare Phase = "compare" // what the two slots have already
	Write   Phase = "write"
	Verify  Phase = "verify" // reads the slot back
)

// errFound ends the search in the running slot: it has all that is wanted.
var errFound = errors.New("nothing more is wanted")

// ErrSize is the fault of a slot that is smaller than the bundle's.
var ErrSize = errors.New("the slot is too small")

// syncEvery bounds what a power cut loses of an installation, and how many pages wait to be written. The disk begins
// with them each beginEvery bytes: if it began at a sync only, it would rest while chunks are unpacked.
const (
	syncEvery  = 16 << 20
	beginEvery = 1 << 20
)

// Listed is a running slot with the index of the bundle that it was written from: what it has where need not be
// searched for. Install believes neither: it verifies what it reads, and fetches what turns out not to be there.
type Listed struct {
	io.ReaderAt
	Index []byte
}

// Install writes the slot's file system. It takes what the idle slot has in its place and what the running slot (seed,
// which may be nil) has anywhere, and reads only the rest from the source. It verifies each chunk before it writes it,
// and reads everything again at the end. After an error or a cut the slot is incomplete, and another Install continues.
func (b *Bundle) Install(
	ctx context.Context, seed io.ReaderAt, seedSize int64, slot Slot, progress func(Progress),
) error {
	entries, err := b.entries()
	if err != nil {
		return err
	}
	i := &install{bundle: b, entries: entries, slot: slot, seed: seed, report: progress, chunks: b.chunks()}
	i.progress.Total = b.manifest.Slot.Size
	if progress == nil {
		i.report = func(Progress) {}
	}
	if err := i.compare(ctx, seedSize); err != nil {
		return err
	}
	if seed != nil {
		if i.delta, err = b.openDelta(seed, entries); err != nil {
			return err
		}
	}
	if i.delta != nil {
		defer i.delta.unpacker.Close()
	}
	if err := i.write(ctx); err != nil {
		return err
	}
	return i.verify(ctx)
}

// chunks returns the window of the stored chunks.
func (b *Bundle) chunks() window { return window{src: b.src, base: b.data} }

// Verify reads all chunks of the bundle and verifies them, without writing anywhere.
func (b *Bundle) Verify(ctx context.Context, progress func(Progress)) error {
	entries, err := b.entries()
	if err != nil {
		return err
	}
	i := &install{bundle: b, entries: entries, report: progress, chunks: b.chunks()}
	i.origin = make([]origin, len(entries))
	i.progress.Total = b.manifest.Slot.Size
	if progress == nil {
		i.report = func(Progress) {}
	}
	return i.write(ctx)
}

// An origin is where the bytes of an entry come from.
type origin struct {
	kept bool
	seed int64 // offset in the running slot + 1; 0: not there
}

// install is one run of Install, or of Verify, which has no slot.
type install struct {
	bundle   *Bundle
	entries  []index.Entry
	slot     Slot
	seed     io.ReaderAt
	report   func(Progress)
	progress Progress
	origin   []origin // of each entry

	chunks   window  // of the stored chunks
	delta    *groups // nil: none is for the running slot
	unsynced int64
	unbegun  int64
}

func (i *install) phase(p Phase) {
	i.progress.Phase, i.progress.Done = p, 0
	i.report(i.progress)
}

func (i *install) done(n int64) {
	i.progress.Done += n
	i.report(i.progress)
}

// compare finds what is in its place in the idle slot, and what the running slot has of the rest. It writes nothing.
func (i *install) compare(ctx context.Context, seedSize int64) error {
	i.phase(Compare)
	i.origin = make([]origin, len(i.entries))
	wanted := make(map[index.Digest][]int) // entries that the idle slot lacks
	buf := make([]byte, index.MaxChunk)
	for n, e := range i.entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		same, err := i.holds(e, buf)
		if err != nil {
			return fmt.Errorf("read idle slot: %w", err)
		}
		i.origin[n].kept = same
		if same {
			i.progress.Kept += e.Length
		} else if !e.Zeros() {
			wanted[e.Digest] = append(wanted[e.Digest], n)
		}
		i.done(e.Length)
	}
	if i.seed == nil || len(wanted) == 0 {
		return nil
	}
	if known, is := i.seed.(Listed); is && i.lookUp(known.Index, seedSize, wanted) == nil {
		return nil
	}
	return i.scanSeed(ctx, seedSize, wanted) // whatever a damaged index has said
}

// lookUp finds what the running slot has in its index.
func (i *install) lookUp(text []byte, size int64, wanted map[index.Digest][]int) error {
	return index.Places(text, size, func(offset, length int64, digest index.Digest) {
		for _, n := range wanted[digest] {
			if i.entries[n].Length == length {
				i.origin[n].seed = offset + 1
			}
		}
	})
}

// holds reports whether the idle slot has an entry in its place. Sectors that cannot be read are written again; a slot
// that ends before the entry is a fault.
func (i *install) holds(e index.Entry, buf []byte) (bool, error) {
	sum := sha256.New()
	for at := int64(0); at < e.Length; {
		p := buf[:min(int64(len(buf)), e.Length-at)]
		switch n, err := i.slot.ReadAt(p, e.Offset+at); {
		case n == len(p):
		case err == nil || errors.Is(err, io.EOF):
			return false, fmt.Errorf("it ends at %d: %w", e.Offset+at+int64(n), i.tooSmall())
		default:
			return false, nil
		}
		if e.Zeros() && !index.IsZero(p) {
			return false, nil
		}
		if !e.Zeros() {
			sum.Write(p)
		}
		at += int64(len(p))
	}
	return e.Zeros() || index.Digest(sum.Sum(nil)) == e.Digest, nil
}

func (i *install) tooSmall() error {
	return fmt.Errorf("%w: the bundle needs %d bytes", ErrSize, i.bundle.manifest.Slot.Size)
}

// scanSeed cuts the running slot like the builder has cut the new one. A part that cannot be read is left out.
func (i *install) scanSeed(ctx context.Context, size int64, wanted map[index.Digest][]int) error {
	const skip = 1 << 20
	for base := int64(0); base < size; base += skip {
		last := base
		err := index.Chunks(io.NewSectionReader(i.seed, base, size-base), size-base, func(c index.Cut) error {
			last = base + c.Offset + c.Length
			if c.Data == nil {
				return context.Cause(ctx)
			}
			digest := index.Digest(sha256.Sum256(c.Data))
			for _, n := range wanted[digest] {
				i.origin[n].seed = base + c.Offset + 1
			}
			delete(wanted, digest)
			if len(wanted) == 0 {
				return errFound
			}
			return context.Cause(ctx)
		})
		if err == nil || errors.Is(err, errFound) || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		base = last &^ (skip - 1)
	}
	return nil
}

// write brings each entry that the slot lacks into it.
func (i *install) write(ctx context.Context) error {
	i.phase(Write)
	u, err := index.NewUnpacker()
	if err != nil {
		return err
	}
	defer u.Close()
	first := make(map[index.Digest]index.Entry) // the entry that is stored, of each chunk
	buf := make([]byte, index.MaxChunk)
	for n, e := range i.entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if e.Stored > 0 {
			first[e.Digest] = e
		}
		if !i.origin[n].kept {
			if err := i.entry(n, first[e.Digest], u, buf); err != nil {
				return err
			}
		}
		i.done(e.Length)
	}
	return i.sync()
}

// entry writes one entry; stored is the entry whose stored bytes it has.
func (i *install) entry(n int, stored index.Entry, u *index.Unpacker, buf []byte) error {
	e := i.entries[n]
	if e.Zeros() {
		return i.zeros(e)
	}
	if at := i.origin[n].seed; at > 0 {
		data := buf[:e.Length]
		if readFull(i.seed, data, at-1) == nil && sha256.Sum256(data) == e.Digest {
			i.progress.Copied += e.Length
			return i.put(data, e.Offset)
		}
	}
	if i.delta != nil {
		data, err := i.fromDelta(n)
		if err != nil {
			return err
		}
		if data != nil {
			return i.put(data, e.Offset)
		}
	}
	if e.Stored == 0 {
		if repeated, err := i.repeat(e, stored, buf); repeated || err != nil {
			return err
		}
	}
	raw, err := i.fetch(n, stored)
	if err != nil {
		return err
	}
	data, err := u.Chunk(stored, raw)
	if err != nil {
		return err
	}
	return i.put(data, e.Offset)
}

// repeat copies a chunk that the slot has already at an earlier place.
func (i *install) repeat(e, stored index.Entry, buf []byte) (bool, error) {
	if i.slot == nil {
		return true, nil // it was verified at its first place
	}
	data := buf[:e.Length]
	if readFull(i.slot, data, stored.Offset) != nil || sha256.Sum256(data) != e.Digest {
		return false, nil
	}
	return true, i.put(data, e.Offset)
}

// zeros writes a run of zeros, where there is something else.
func (i *install) zeros(e index.Entry) error {
	if i.slot == nil {
		return nil
	}
	buf, zero := make([]byte, atOnce), make([]byte, atOnce)
	for at := int64(0); at < e.Length; at += atOnce {
		p := buf[:min(atOnce, e.Length-at)]
		if readFull(i.slot, p, e.Offset+at) == nil && bytes.Equal(p, zero[:len(p)]) {
			continue
		}
		if err := i.put(zero[:len(p)], e.Offset+at); err != nil {
			return err
		}
	}
	return nil
}

func (i *install) put(data []byte, at int64) error {
	if i.slot == nil {
		return nil
	}
	if _, err := i.slot.WriteAt(data, at); err != nil {
		return fmt.Errorf("write idle slot: %w", err)
	}
	i.unsynced += int64(len(data))
	i.unbegun += int64(len(data))
	if i.unsynced >= syncEvery {
		return i.sync()
	}
	if disk, is := i.slot.(BlockDevice); is && i.unbegun >= beginEvery {
		disk.begin()
		i.unbegun = 0
	}
	return nil
}

func (i *install) sync() error {
	if i.slot == nil {
		return nil
	}
	i.unsynced, i.unbegun = 0, 0
	if err := i.slot.Sync(); err != nil {
		return fmt.Errorf("write idle slot: %w", err)
	}
	return nil
}

// fromDelta returns the verified content of entry n; nil if the delta does not have it. A delta that turns out to be
// for another slot is used no more.
func (i *install) fromDelta(n int) ([]byte, error) {
	before := i.delta.data.fetched
	data, err := i.delta.entry(n, i.entries, i.lacks)
	i.progress.Fetched += i.delta.data.fetched - before
	if errors.Is(err, errNotOld) {
		i.delta, err = nil, nil
	}
	return data, err
}

// lacks reports whether neither slot has an entry.
func (i *install) lacks(n int) bool {
	return !i.entries[n].Zeros() && !i.origin[n].kept && i.origin[n].seed == 0
}

// fetch returns the stored bytes of the chunk of entry n. If it must read them, it reads them together with those that
// later entries need and that follow without a gap.
func (i *install) fetch(n int, stored index.Entry) ([]byte, error) {
	before := i.chunks.fetched
	raw, err := i.chunks.read(stored.Place, stored.Place+stored.Stored, i.runEnd(n, stored))
	i.progress.Fetched += i.chunks.fetched - before
	if err != nil {
		return nil, fmt.Errorf("fetch chunks: %w", err)
	}
	return raw, nil
}

// runEnd returns where the stored bytes end that one request should fetch.
func (i *install) runEnd(n int, stored index.Entry) int64 {
	end := stored.Place + stored.Stored
	if i.entries[n].Stored == 0 {
		return end // it repeats an earlier chunk: what follows that is probably there
	}
	for k := n + 1; k < len(i.entries); k++ {
		e, o := i.entries[k], i.origin[k]
		if e.Stored == 0 {
			continue
		}
		if o.kept || o.seed > 0 || e.Place+e.Stored-stored.Place > atOnce {
			break
		}
		end = e.Place + e.Stored
	}
	return end
}

// verify reads the slot back and compares each entry with its digest. That is as good as the digest of the whole slot,
// because the manifest has the digest of the index. Runs of zeros that were there are not read once more: nothing was
// written there, and reading most of a slot of 192 MiB takes a slow disk longer than writing the rest.
func (i *install) verify(ctx context.Context) error {
	i.phase(Verify)
	buf := make([]byte, index.MaxChunk)
	for n, e := range i.entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if e.Zeros() && i.origin[n].kept {
			i.done(e.Length)
			continue
		}
		if same, err := i.holds(e, buf); err != nil || !same {
			return errors.Join(err, fmt.Errorf("read idle slot back: at %d it is not what was written: "+
				"the disk is worn or damaged", e.Offset))
		}
		i.done(e.Length)
	}
	return nil
}
