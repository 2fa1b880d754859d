package pack_test

import (
	"bytes"
	"testing"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/index"
)

// TestListed: of a running slot whose index is known, an installation reads only what it writes; an index that is
// damaged, or of another slot, costs reads or bytes of the bundle and nothing else.
func TestListed(t *testing.T) {
	k := newKey(t, "release")
	img := append(image(1), make([]byte, 6<<20)...)
	old := append(random(9, 3*4096), img[:len(img)-3*4096]...) // the same at other places
	oldBundle, err := bundle.Open(&file{data: write(t, manifest(len(old)), old, k)}, trusting(1, k))
	if err != nil {
		t.Fatal(err)
	}
	list, err := oldBundle.Index()
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(list) // each chunk has the digest of another one
	for i := 0; i+2*index.EntrySize <= len(wrong); i += 2 * index.EntrySize {
		a, b := wrong[i+8:][:32], wrong[i+index.EntrySize+8:][:32]
		for j := range a {
			a[j], b[j] = b[j], a[j]
		}
	}
	text := write(t, manifest(len(img)), img, k)
	for name, c := range map[string]struct {
		list    []byte
		fetched int64 // the most
		reads   int64 // the most that are read of the running slot, beyond what is written
	}{
		"whole":          {list, 100_000, 0},
		"damaged":        {list[:len(list)-1], 100_000, int64(len(old))},
		"none":           {nil, int64(len(text)), 0},
		"of other bytes": {wrong, int64(len(text)), 0},
	} {
		b, err := bundle.Open(&file{data: text}, trusting(1, k))
		if err != nil {
			t.Fatal(err)
		}
		seed, s := &file{data: old}, &slot{data: make([]byte, len(img))}
		fetched := int64(0)
		err = b.Install(t.Context(), bundle.Listed{ReaderAt: seed, Index: c.list}, int64(len(old)), s,
			func(p bundle.Progress) { fetched = p.Fetched })
		if err != nil || !bytes.Equal(s.data, img) {
			t.Errorf("%s: %v; the slot is right: %t", name, err, bytes.Equal(s.data, img))
		}
		if fetched > c.fetched || seed.read > s.written+c.reads {
			t.Errorf("%s: fetched %d, at most %d; read %d of the running slot, at most %d", name, fetched, c.fetched,
				seed.read, s.written+c.reads)
		}
	}
}
