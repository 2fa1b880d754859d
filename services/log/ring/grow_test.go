package ring

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

// grown is a chunk of n entries, each of which is a batch of its own, and where in it each ends.
func grown(t testing.TB, n int) (b []byte, ends []int) {
	t.Helper()
	var g *chunk.Growth
	for i := range n {
		e := sample([]pipe.Source{web, netd}[i%2], i)
		e.Seq, e.PID, e.Message = uint64(5+i), i, fmt.Sprintf("line %d %s", i, strings.Repeat("x", i))
		if g == nil {
			g = chunk.Grow([16]byte{7}, e)
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

func readBoot(t testing.TB, b []byte) (list []entry.Entry) {
	t.Helper()
	dir := t.TempDir()
	bootDir := filepath.Join(dir, BootDir(1, [16]byte{7}))
	if err := os.Mkdir(bootDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bootDir, chunk.FileName(5)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	boots, strange, err := Boots(dir)
	if err != nil || len(boots) != 1 || len(strange) != 0 {
		t.Fatalf("%d boots, strange %v, %v", len(boots), strange, err)
	}
	rd := boots[0].NewReader(0)
	defer rd.Close()
	for {
		var e entry.Entry
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
	for cut := chunk.HeaderSize; cut <= len(b); cut++ {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		got := readBoot(t, b[:cut])
		if len(got) != whole {
			t.Fatalf("cut at %d: %d entries, want %d", cut, len(got), whole)
		}
		for i, e := range got {
			if e.Seq != uint64(5+i) || e.PID != i || !strings.HasPrefix(e.Message, fmt.Sprintf("line %d ", i)) ||
				e.Time != sample(web, i).Time {
				t.Fatalf("cut at %d: entry %d is %+v", cut, i, e)
			}
		}
		g, size, err := chunk.Regrow([16]byte{7}, b[:cut])
		if err != nil || g.Next() != uint64(5+whole) || whole > 0 && size != int64(ends[whole-1]) {
			t.Fatalf("cut at %d: Regrow gave %d bytes, %v", cut, size, err)
		}
		e := sample(netd, 9)
		e.Seq, e.Message = g.Next(), "more"
		if _, err := g.Add(e); err != nil {
			t.Fatal(err)
		}
		more, err := g.Take()
		if err != nil {
			t.Fatal(err)
		}
		if got := readBoot(t, append(slices.Clone(b[:size]), more...)); len(got) != whole+1 ||
			got[whole].Message != "more" || got[whole].Name != "netd" {
			t.Fatalf("cut at %d: after going on %+v", cut, got)
		}
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
	e := sample(web, 10)
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
