package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/index"
)

// Old is a slot that devices may run.
type Old struct {
	Version string // of resinOS
	Slot    io.ReaderAt
	Size    int64 // bytes
}

// margin is how far a dictionary reaches beyond the place of its group, on both sides. Decision 0038 has the figures.
const margin = 256 << 10

// samples is how many parts of an old slot identify it.
const samples = 16

// delta writes to spool what a device that runs an old slot needs for a new one: a list of groups, then the groups.
func delta(old Old, slot io.ReaderAt, entries []index.Entry, spool io.Writer) (bundle.Delta, error) {
	known := make(map[index.Digest]int64) // where the old slot has a chunk
	var cuts []index.Cut
	err := index.Chunks(io.NewSectionReader(old.Slot, 0, old.Size), old.Size, func(c index.Cut) error {
		if c.Data != nil {
			known[sha256.Sum256(c.Data)] = c.Offset
			cuts = append(cuts, index.Cut{Offset: c.Offset, Length: c.Length})
		}
		return nil
	})
	if err != nil {
		return bundle.Delta{}, fmt.Errorf("cut old slot into chunks: %w", err)
	}
	d := bundle.Delta{From: old.Version}
	if d.Samples, err = sample(old, cuts); err != nil {
		return d, err
	}
	var packed []byte // of all groups: the list comes before them
	var groups []index.Group
	for _, g := range group(entries, known) {
		one, err := packGroup(&g, old, slot, entries)
		if err != nil {
			return d, err
		}
		if g.Stored < stored(entries[g.First:g.First+g.Count]) {
			groups, packed = append(groups, g), append(packed, one...)
		}
	}
	if len(groups) == 0 {
		return d, errNothing
	}
	list := index.EncodeGroups(groups)
	d.Index, d.Data = described(list), int64(len(packed))
	for _, part := range [][]byte{list, packed} {
		if _, err := spool.Write(part); err != nil {
			return d, err
		}
	}
	return d, nil
}

// errNothing is the fault of an old slot that has nothing in common with the new one, or everything.
var errNothing = errors.New("the chunks need nothing that a delta could make smaller")

// stored returns how many bytes the bundle has for entries without a delta.
func stored(entries []index.Entry) (bytes int64) {
	for _, e := range entries {
		bytes += e.Stored
	}
	return bytes
}

// group collects the entries that the old slot does not have. The dictionary of a group lies around the place where the
// old slot would have it: as far from its own as that of the entry before is.
func group(entries []index.Entry, known map[index.Digest]int64) []index.Group {
	var groups []index.Group
	shift := int64(0) // from a place in the new slot to the same in the old one
	open := false     // the next entry may belong to the last group
	length := int64(0)
	for n, e := range entries {
		at, there := known[e.Digest]
		if there {
			shift = at - e.Offset
		}
		if there || e.Zeros() {
			open = false
			continue
		}
		if !open || length+e.Length > index.MaxGroup {
			groups = append(groups, index.Group{First: n, Base: e.Offset + shift - margin})
			open, length = true, 0
		}
		groups[len(groups)-1].Count++
		length += e.Length
	}
	return groups
}

// packGroup compresses a group with its dictionary, which it moves into the old slot.
func packGroup(g *index.Group, old Old, slot io.ReaderAt, entries []index.Entry) ([]byte, error) {
	members := entries[g.First : g.First+g.Count]
	length, _ := index.Span(members)
	end := min(g.Base+length+2*margin, old.Size)
	g.Base = max(min(g.Base, end), 0)
	g.BaseLength = max(end-g.Base, 0)
	dictionary, content := make([]byte, g.BaseLength), make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(old.Slot, g.Base, g.BaseLength), dictionary); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(io.NewSectionReader(slot, members[0].Offset, length), content); err != nil {
		return nil, err
	}
	packed, err := index.PackGroup(content, dictionary)
	g.Stored = int64(len(packed))
	return packed, err
}

// sample takes parts of the old slot at equal distances, from the middle of chunks.
func sample(old Old, cuts []index.Cut) ([]bundle.Sample, error) {
	var all []bundle.Sample
	for n := range min(samples, len(cuts)) {
		c := cuts[n*len(cuts)/min(samples, len(cuts))]
		at := min(c.Offset+c.Length/2, old.Size-bundle.SampleSize)
		p := make([]byte, bundle.SampleSize)
		if _, err := io.ReadFull(io.NewSectionReader(old.Slot, at, bundle.SampleSize), p); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(p)
		all = append(all, bundle.Sample{Offset: at, SHA256: hex.EncodeToString(sum[:])})
	}
	return all, nil
}
