package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"resinos/bsp/bundle/index"
)

// A delta lets a device that runs one known version fetch less: it packs what that version lacks with parts of its slot
// as dictionaries. What comes out of it is believed only if it has the digest of the index, so that a slot that is not
// quite the known one costs a few bytes and never a wrong slot.

// Delta says for which version a delta is, and what is stored for it behind the chunks: its list, then its groups.
type Delta struct {
	From    string   `json:"from"`    // version of resinOS; for people
	Samples []Sample `json:"samples"` // of the slot of that version
	Index   Index    `json:"index"`
	Data    int64    `json:"data"` // bytes of all groups
}

// Sample is a part of a slot by which a device recognises it.
type Sample struct {
	Offset int64  `json:"offset"`
	SHA256 string `json:"sha256"` // of SampleSize bytes
}

// SampleSize is the number of bytes of a sample.
const SampleSize = 4 << 10

const (
	maxDeltas  = 32
	maxSamples = 64
)

func (d Delta) size() int64 { return d.Index.Size + d.Data }

func (d Delta) check(slot int64) error {
	switch {
	case len(d.Samples) == 0 || len(d.Samples) > maxSamples:
		return fmt.Errorf("%d samples, want 1 to %d", len(d.Samples), maxSamples)
	case d.Index.Size <= 0 || d.Index.Size > maxIndex || d.Index.Size%index.GroupSize != 0,
		!validDigest(d.Index.SHA256):
		return fmt.Errorf("list of %d bytes: want groups of %d bytes, at most %d bytes, and a digest",
			d.Index.Size, index.GroupSize, maxIndex)
	case d.Data < 0 || d.Data > slot:
		return fmt.Errorf("data size %d: want at most the slot's %d bytes", d.Data, slot)
	}
	for _, s := range d.Samples {
		if s.Offset < 0 || s.Offset > maxSlot || !validDigest(s.SHA256) {
			return fmt.Errorf("sample at %d: place or digest is not valid", s.Offset)
		}
	}
	return nil
}

// fits reports whether a slot has three quarters of the samples. The rest may have changed: a device gives the file
// system of its slot an identifier of its own.
func (d Delta) fits(slot io.ReaderAt) bool {
	same := 0
	for _, s := range d.Samples {
		p := make([]byte, SampleSize)
		if readFull(slot, p, s.Offset) != nil {
			continue
		}
		if sum := sha256.Sum256(p); hex.EncodeToString(sum[:]) == s.SHA256 {
			same++
		}
	}
	return 4*same >= 3*len(d.Samples)
}

// groups is the delta that an installation uses.
type groups struct {
	list     []index.Group
	seed     io.ReaderAt
	data     window // of the stored bytes
	current  int    // the group whose content is unpacked; -1: none
	content  []byte
	unpacker *index.GroupUnpacker
}

// openDelta returns the first delta for the slot seed; nil if there is none.
func (b *Bundle) openDelta(seed io.ReaderAt, entries []index.Entry) (*groups, error) {
	at := b.data + b.manifest.Data
	for _, d := range b.manifest.Deltas {
		if !d.fits(seed) {
			at += d.size()
			continue
		}
		text, err := b.readList(at, d.Index, "delta")
		if err != nil {
			return nil, err
		}
		list, err := index.ParseGroups(text, entries, d.Data)
		if err != nil {
			return nil, err
		}
		u, err := index.NewGroupUnpacker()
		return &groups{
			list: list, seed: seed, data: window{src: b.src, base: at + d.Index.Size}, current: -1, unpacker: u,
		}, err
	}
	return nil, nil
}

// errNotOld is the fault of a slot that is not the old one of a delta.
var errNotOld = errors.New("the slot is not the one that the delta was made for")

// entry returns the verified content of entry n; nil if no group has it. wanted reports which entries the slot lacks.
func (g *groups) entry(n int, entries []index.Entry, wanted func(n int) bool) ([]byte, error) {
	k, found := slices.BinarySearchFunc(g.list, n, func(one index.Group, n int) int {
		switch {
		case n < one.First:
			return 1
		case n >= one.First+one.Count:
			return -1
		}
		return 0
	})
	if !found {
		return nil, nil
	}
	group := g.list[k]
	if g.current != k {
		stored, err := g.data.read(group.Place, group.Place+group.Stored, g.runEnd(k, wanted))
		if err != nil {
			return nil, fmt.Errorf("fetch delta: %w", err)
		}
		length, _ := index.Span(entries[group.First : group.First+group.Count])
		if g.content, err = g.unpacker.Unpack(group, stored, g.seed, length); err != nil {
			return nil, errNotOld
		}
		g.current = k
	}
	from, _ := index.Span(entries[group.First:n])
	data := g.content[from:][:entries[n].Length]
	if sha256.Sum256(data) != entries[n].Digest {
		return nil, errNotOld
	}
	return data, nil
}

// runEnd returns where the stored bytes end that one request should fetch: up to the next group of which the slot lacks
// nothing.
func (g *groups) runEnd(k int, wanted func(n int) bool) int64 {
	from, end := g.list[k].Place, g.list[k].Place+g.list[k].Stored
	for _, group := range g.list[k+1:] {
		needed := false
		for n := group.First; n < group.First+group.Count && !needed; n++ {
			needed = wanted(n)
		}
		if !needed || group.Place+group.Stored-from > atOnce {
			break
		}
		end = group.Place + group.Stored
	}
	return end
}
