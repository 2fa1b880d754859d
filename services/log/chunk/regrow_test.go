package chunk

import (
	"slices"
	"testing"
)

func TestGrowthWantsTheNextEntry(t *testing.T) {
	e := sample(web, 0)
	e.Seq = 5
	g := Grow([16]byte{7}, e)
	e.Seq = 6
	if _, err := g.Add(e); err == nil {
		t.Error("entry 6 was taken for 5")
	}
	if b, err := g.Take(); len(b) != 0 || err != nil {
		t.Errorf("Take of nothing gave %d bytes, %v", len(b), err)
	}
	b, _ := grown(t, 1)
	if _, _, err := Regrow([16]byte{8}, b); err == nil {
		t.Error("another boot's chunk was taken up")
	}
}

func FuzzRegrow(f *testing.F) {
	b, ends := grown(f, 3)
	f.Add(b, 0, byte(0))
	f.Add(b[:ends[1]+5], 70, byte(1))
	f.Add(b[:HeaderSize], 9, byte(2))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = slices.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		g, whole, err := Regrow([16]byte{7}, b)
		if err != nil {
			return
		}
		if whole < HeaderSize || whole > int64(len(b)) {
			t.Fatalf("%d whole bytes of %d", whole, len(b))
		}
		e := sample(netd, 1)
		e.Seq = g.Next()
		if _, err := g.Add(e); err != nil {
			t.Fatal(err)
		}
		more, err := g.Take()
		if err != nil {
			t.Fatal(err)
		}
		again, size, err := Regrow([16]byte{7}, append(b[:whole:whole], more...))
		if err != nil || again.Next() != g.Next() || size != whole+int64(len(more)) {
			t.Errorf("gone on: entry %d, %d bytes, %v; want %d, %d", again.Next(), size, err, g.Next(),
				whole+int64(len(more)))
		}
	})
}
