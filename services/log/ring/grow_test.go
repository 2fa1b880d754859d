package ring

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/services/log/pipe"
)

// grown is a chunk of n entries, each of which is a batch of its own, and where in it each ends.
func grown(t testing.TB, n int) (b []byte, ends []int) {
	t.Helper()
	var g *Growth
	for i := range n {
		e := entry([]pipe.Source{web, netd}[i%2], i)
		e.Seq, e.PID, e.Message = uint64(5+i), i, fmt.Sprintf("line %d %s", i, strings.Repeat("x", i))
		if g == nil {
			g = Grow([16]byte{7}, e)
		}
		if _, err := g.Add(e); err != nil {
			t.Fatal(err)
		}
		more, err := g.Take()
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, more...)
		ends = append(ends, len(b))
		if i%2 == 0 {
			g.Rest()
		}
	}
	return b, ends
}

func readBoot(t testing.TB, b []byte) (list []Entry) {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, BootFolder(1, [16]byte{7}))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, ChunkFile(5)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	boots, strange, err := Boots(dir)
	if err != nil || len(boots) != 1 || len(strange) != 0 {
		t.Fatalf("%d boots, strange %v, %v", len(boots), strange, err)
	}
	rd := boots[0].NewReader(0)
	defer rd.Close()
	for {
		var e Entry
		found, err := rd.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			return list
		}
		list = append(list, e)
	}
}

// A chunk that grew is read and gone on with from any length.
func TestGrowthIsCutAnywhere(t *testing.T) {
	b, ends := grown(t, 6)
	for cut := headerSize; cut <= len(b); cut++ {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		got := readBoot(t, b[:cut])
		if len(got) != whole {
			t.Fatalf("cut at %d: %d entries, want %d", cut, len(got), whole)
		}
		for i, e := range got {
			if e.Seq != uint64(5+i) || e.PID != i || !strings.HasPrefix(e.Message, fmt.Sprintf("line %d ", i)) || e.Time != entry(web, i).Time {
				t.Fatalf("cut at %d: entry %d is %+v", cut, i, e)
			}
		}
		g, size, err := Regrow([16]byte{7}, b[:cut])
		if err != nil || g.Next() != uint64(5+whole) || whole > 0 && size != int64(ends[whole-1]) {
			t.Fatalf("cut at %d: Regrow gave %d bytes, %v", cut, size, err)
		}
		e := entry(netd, 9)
		e.Seq, e.Message = g.Next(), "more"
		if _, err := g.Add(e); err != nil {
			t.Fatal(err)
		}
		more, err := g.Take()
		if err != nil {
			t.Fatal(err)
		}
		if got := readBoot(t, append(slices.Clone(b[:size]), more...)); len(got) != whole+1 || got[whole].Message != "more" || got[whole].Name != "netd" {
			t.Fatalf("cut at %d: after going on %+v", cut, got)
		}
	}
}

func TestGrowthWantsTheNextEntry(t *testing.T) {
	e := entry(web, 0)
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

// The ring tells whoever keeps its entries when to come.
func TestRingCalls(t *testing.T) {
	r := open(t, t.TempDir(), 512<<10)
	defer r.Close()
	heard := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	fill(t, r, web, 0, 10)
	if heard(r.Urgent()) || heard(r.Full()) || r.Presses(0) {
		t.Error("called for nothing")
	}
	e := entry(web, 10)
	e.Priority = 3
	if err := r.Append(e, []byte("an error"), 110); err != nil {
		t.Fatal(err)
	}
	if heard(r.Urgent()) {
		t.Error("called before the commit")
	}
	if err := r.Commit(); err != nil || !heard(r.Urgent()) {
		t.Errorf("not called after it, %v", err)
	}
	for i := 11; !r.Presses(100); i += 100 {
		fill(t, r, web, i, i+100)
		if i > 50_000 {
			t.Fatal("nothing presses")
		}
	}
	if r.Oldest() > 0 || !heard(r.Full()) || r.Presses(r.Next()) || r.Presses(r.last().first) {
		t.Errorf("pressed too late or wrongly: oldest %d, next %d", r.Oldest(), r.Next())
	}
}

func FuzzRegrow(f *testing.F) {
	b, ends := grown(f, 3)
	f.Add(b, 0, byte(0))
	f.Add(b[:ends[1]+5], 70, byte(1))
	f.Add(b[:headerSize], 9, byte(2))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = slices.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		g, whole, err := Regrow([16]byte{7}, b)
		if err != nil {
			return
		}
		if whole < headerSize || whole > int64(len(b)) {
			t.Fatalf("%d whole bytes of %d", whole, len(b))
		}
		e := entry(netd, 1)
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
			t.Errorf("gone on: entry %d, %d bytes, %v; want %d, %d", again.Next(), size, err, g.Next(), whole+int64(len(more)))
		}
	})
}
