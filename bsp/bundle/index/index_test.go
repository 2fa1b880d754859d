package index

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// cut returns the parts of b. It checks that they follow each other and are what was cut.
func cut(t *testing.T, b []byte) []Cut {
	t.Helper()
	var all []Cut
	at := int64(0)
	err := Chunks(bytes.NewReader(b), int64(len(b)), func(c Cut) error {
		part := b[c.Offset : c.Offset+c.Length]
		same := c.Data != nil && bytes.Equal(c.Data, part) || c.Data == nil && IsZero(part)
		if c.Offset != at || c.Length <= 0 || !same {
			t.Fatalf("part at %d of %d bytes, want it at %d", c.Offset, c.Length, at)
		}
		if c.Data != nil && c.Length > MaxChunk {
			t.Errorf("a chunk of %d bytes", c.Length)
		}
		at += c.Length
		all = append(all, Cut{c.Offset, c.Length, bytes.Clone(c.Data)})
		return nil
	})
	if err != nil || at != int64(len(b)) {
		t.Fatalf("Chunks ends at %d of %d: %v", at, len(b), err)
	}
	return all
}

func TestChunks(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, c := range map[string]struct {
		data []byte
		runs int // of zeros
	}{
		"nothing":                        {nil, 0},
		"one byte":                       {[]byte{1}, 0},
		"zeros only":                     {zeros(1 << 20), 1},
		"one zero":                       {zeros(1), 1},
		"data only":                      {random(1, 1<<20), 0},
		"zeros at both ends":             {join(zeros(1<<20), random(1, 300_000), zeros(1<<20)), 2},
		"a run that is too short":        {join(random(1, 65536), zeros(15*Block), random(2, 65536)), 0},
		"a run that is just long enough": {join(random(1, 65536), zeros(16*Block), random(2, 65536)), 1},
		"a run beside its blocks":        {join(random(1, 65536+100), zeros(16*Block), random(2, 65536-100)), 0},
		"a short run at the end":         {join(random(1, 65536), zeros(3*Block)), 1},
	} {
		runs := 0
		for _, part := range cut(t, c.data) {
			if part.Data == nil {
				runs++
			}
		}
		if runs != c.runs {
			t.Errorf("%s: %d runs of zeros, want %d", name, runs, c.runs)
		}
	}
}

// TestChunksAfterAChange wants that an insertion changes few chunks, and the same ones however the data is read.
func TestChunksAfterAChange(t *testing.T) {
	old := random(1, 4<<20)
	changed := append(append(bytes.Clone(old[:1<<20]), random(2, 1000)...), old[1<<20:]...)
	known := map[Digest]bool{}
	for _, c := range cut(t, old) {
		known[sha256.Sum256(c.Data)] = true
	}
	missing := 0
	all := cut(t, changed)
	for _, c := range all {
		if !known[sha256.Sum256(c.Data)] {
			missing++
		}
	}
	if missing > 4 || len(all) < 100 {
		t.Errorf("%d of %d chunks have changed", missing, len(all))
	}
	n := 0
	pieces := io.MultiReader(bytes.NewReader(old[:7]), bytes.NewReader(old[7:]))
	err := Chunks(pieces, int64(len(old)), func(c Cut) error {
		if !known[sha256.Sum256(c.Data)] {
			t.Errorf("another chunk at %d", c.Offset)
		}
		n++
		return nil
	})
	if err != nil || n != len(known) {
		t.Errorf("%d chunks, want %d; %v", n, len(known), err)
	}
}

func TestChunksFaults(t *testing.T) {
	short := func(Cut) error { return nil }
	if err := Chunks(bytes.NewReader(random(1, 1000)), 2000, short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("data too short: %v", err)
	}
	if err := Chunks(bytes.NewReader(make([]byte, 1000)), 2000, short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("zeros too short: %v", err)
	}
	stop := errors.New("enough")
	for _, data := range [][]byte{random(1, 1<<20), make([]byte, 1<<20)} {
		if err := Chunks(bytes.NewReader(data), 1<<20, func(Cut) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Chunks = %v, want %v", err, stop)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Encode([]Entry{{Length: 10, Stored: 10, Digest: Digest{1}}, {Length: 90}}), int64(100), int64(10))
	f.Fuzz(func(t *testing.T, text []byte, slot, data int64) {
		entries, err := Parse(text, slot, data)
		if err != nil {
			return
		}
		if !bytes.Equal(Encode(entries), text) {
			t.Error("Encode of what was parsed is not what was parsed")
		}
		at, place := int64(0), int64(0)
		for _, e := range entries {
			if e.Offset != at || e.Place != place || e.Length <= 0 || e.Stored > e.Length || e.Stored > MaxChunk {
				t.Errorf("entry %+v at %d, %d", e, at, place)
			}
			at, place = at+e.Length, place+e.Stored
		}
		if at != slot || place != data {
			t.Errorf("the entries end at %d and %d, want %d and %d", at, place, slot, data)
		}
	})
}

func FuzzParseGroups(f *testing.F) {
	entries := []Entry{
		{Length: 10, Digest: Digest{1}}, {Length: 90, Digest: Digest{2}},
		{Length: 1 << 20}, {Length: 7, Digest: Digest{3}},
	}
	f.Add(EncodeGroups([]Group{
		{First: 0, Count: 2, Base: 5, BaseLength: 100, Stored: 3}, {First: 3, Count: 1, Stored: 4},
	}), int64(7))
	f.Fuzz(func(t *testing.T, text []byte, data int64) {
		groups, err := ParseGroups(text, entries, data)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeGroups(groups), text) {
			t.Error("EncodeGroups of what was parsed is not what was parsed")
		}
		next, place := 0, int64(0)
		for _, g := range groups {
			if g.First < next || g.Count < 1 || g.First+g.Count > len(entries) || g.Place != place || g.Base < 0 {
				t.Errorf("group %+v behind entry %d, place %d", g, next, place)
			}
			next, place = g.First+g.Count, place+g.Stored
		}
	})
}
