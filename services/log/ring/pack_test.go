package ring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
)

// packing runs Pack until the function returned is called.
func packing(t testing.TB, r *Ring) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Pack(ctx, func(err error) { t.Error(err) }, func(bool) {}) })
	return func() { cancel(); wg.Wait() }
}

// packAll packs everything that is sealed.
func packAll(t testing.TB, r *Ring) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r.Pack(ctx, func(err error) { t.Error(err) }, func(bool) { cancel() })
}

func TestPackedChunksReadTheSame(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, DefaultSize)
	fill(t, r, netd, 0, 5)
	fill(t, r, web, 0, 30_000)
	held := r.NewReader(0) // of the plain form of the first chunk
	defer held.Close()
	var e entry.Entry
	if ok, err := held.Next(&e); !ok || err != nil {
		t.Fatal(ok, err)
	}
	want, before := readAll(t, r, 0), r.size()
	packAll(t, r)
	if after := r.size(); after > before/2 {
		t.Errorf("%d bytes became %d", before, after)
	}
	check := func(when string) {
		t.Helper()
		got := readAll(t, r, 0)
		if len(got) != len(want) {
			t.Fatalf("%s: %d entries, want %d", when, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: entry %d is %+v, want %+v", when, i, got[i], want[i])
			}
		}
	}
	check("packed")
	for i := 1; i < len(want); i++ {
		if ok, err := held.Next(&e); !ok || err != nil || e != want[i] {
			t.Fatalf("held reader: entry %d is %+v, %v, %v", i, e, ok, err)
		}
	}
	if from, found, err := r.Tail(3, func(e *entry.Entry) bool { return e.Name == "netd" }); from != 2 || found != 3 ||
		err != nil {
		t.Errorf("Tail = %d, %d, %v", from, found, err)
	}
	r.Close()
	r = open(t, dir, DefaultSize)
	check("reopened")
	if got := r.Mark(netd).Cursor; got != 50 {
		t.Errorf("cursor %d", got)
	}
	// The newest chunk breaks: the ring goes on behind the packed one before it.
	last := r.last()
	r.Close()
	spoil(t, r.path(last.first), 20)
	r, _, err := Open(dir, DefaultSize, [16]byte{1, 2, 3}, testClock)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Next() != last.first || r.Mark(netd).Cursor != 50 || r.Mark(web).Cursor == 0 {
		t.Errorf("goes on at %d, want %d; marks %+v", r.Next(), last.first, r.Mark(web))
	}
	fill(t, r, web, 0, 1)
}

// Readers follow while chunks are sealed, packed and evicted under them.
func TestPackWhileFollowing(t *testing.T) {
	r := open(t, t.TempDir(), 512<<10)
	defer r.Close()
	defer packing(t, r)()
	const lines = 100_000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			rd := r.NewReader(0)
			defer rd.Close()
			var e entry.Entry
			n := uint64(0)
			for rd.Seq() < lines {
				ok, err := rd.Next(&e)
				switch {
				case err != nil:
					t.Error(err)
					return
				case !ok:
					<-r.Changed(rd.Seq())
				case e.Message != fmt.Sprintf("line %d", e.Seq):
					t.Errorf("entry %d is %q", e.Seq, e.Message)
					return
				default:
					n++
				}
			}
			if n+rd.Skipped != lines {
				t.Errorf("read %d, skipped %d", n, rd.Skipped)
			}
		})
	}
	for i := 0; i < lines; i += 50 {
		fill(t, r, web, i, i+50)
	}
	wg.Wait()
}

func TestPackedRingHoldsMore(t *testing.T) {
	r := open(t, t.TempDir(), 1<<20)
	defer r.Close()
	text := strings.Repeat("GET /index.html 200 ", 4)
	for i := range 60_000 {
		if err := r.Append(sample(web, i), fmt.Appendf(nil, "%s%d", text, i), int64(i)); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			packAll(t, r)
		}
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	if size := r.size(); size > 1<<20 || r.Oldest() != 0 {
		t.Errorf("%d bytes hold the entries from %d on", size, r.Oldest())
	}
}

// What is broken stays as it is and is not tried again.
func TestBrokenChunkStaysPlain(t *testing.T) {
	r := open(t, t.TempDir(), 4<<20)
	defer r.Close()
	fill(t, r, web, 0, 10_000)
	if err := r.rotate(); err != nil {
		t.Fatal(err)
	}
	spoil(t, r.path(0), r.chunks[0].size/2)
	failed := 0
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		r.Pack(ctx, func(error) { failed++ }, func(bool) { cancel() })
	}
	if failed != 1 || !r.chunks[0].kept {
		t.Errorf("failed %d times, %+v", failed, r.chunks[0])
	}
	if left, _ := filepath.Glob(filepath.Join(r.dir, "*"+tmp)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, DefaultSize)
	fill(t, r, web, 0, 1)
	want := chunk.Mark{Cursor: 77, PID: 12, Dropped: 5}
	for _, s := range []chunk.Mark{{Cursor: 1}, want} {
		if err := r.SetMark(netd, s); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	r = open(t, dir, DefaultSize)
	if got := r.Mark(netd); got != want {
		t.Errorf("mark %+v, want %+v", got, want)
	}
	if err := r.Report(sample(netd, 0), []byte("5 lines dropped")); err != nil {
		t.Fatal(err)
	}
	if err := r.Append(sample(netd, 0), []byte("back"), -9); err != nil { // a cursor may go anywhere
		t.Fatal(err)
	}
	r.Close()
	r = open(t, dir, DefaultSize)
	defer r.Close()
	if got, want := r.Mark(netd), (chunk.Mark{Cursor: -9, PID: 12}); got != want {
		t.Errorf("mark %+v, want %+v", got, want)
	}
	if got := readAll(t, r, 0); len(got) != 3 {
		t.Errorf("%d entries", len(got))
	}
}

// keepBoot copies the chunks of a ring to where boots are kept.
func keepBoot(t *testing.T, r *Ring, dir string, number int) {
	t.Helper()
	to := filepath.Join(dir, BootDir(number, r.boot))
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.chunks {
		b, err := os.ReadFile(r.path(c.first))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, chunk.FileName(c.first)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBoots(t *testing.T) {
	dir := t.TempDir()
	if boots, _, err := Boots(filepath.Join(dir, "missing")); len(boots) != 0 || err != nil {
		t.Errorf("a missing directory: %v, %v", boots, err)
	}
	for i, packed := range []bool{true, false} {
		r, _, err := Open(t.TempDir(), DefaultSize, [16]byte{byte(i + 1)}, testClock)
		if err != nil {
			t.Fatal(err)
		}
		fill(t, r, web, 0, 20_000)
		if packed {
			r.rotate()
			packAll(t, r)
			r.chunks = r.chunks[:len(r.chunks)-1]
		}
		keepBoot(t, r, dir, 9+i)
		r.Close()
	}
	os.Mkdir(filepath.Join(dir, "strange"), 0o700)
	boots, _, err := Boots(dir)
	if err != nil || len(boots) != 2 {
		t.Fatalf("%d boots, %v", len(boots), err)
	}
	for i, b := range boots {
		if b.Number != 9+i || b.ID != chunk.BootString([16]byte{byte(i + 1)}) {
			t.Errorf("boot %d is %d %s", i, b.Number, b.ID)
		}
		if from, found, err := b.Tail(10, 1<<62, nil); err != nil || found != 10 || from != 19_990 {
			t.Errorf("Tail of boot %d = %d, %d, %v", i, from, found, err)
		}
		n, skipped := count(t, b.NewReader(0))
		if n != 20_000 || skipped != 0 {
			t.Errorf("boot %d: %d entries, %d skipped", i, n, skipped)
		}
	}
	os.Remove(boots[0].path(boots[0].firsts[1])) // while it is being read
	if n, skipped := count(t, boots[0].NewReader(0)); n+skipped != 20_000 || skipped == 0 {
		t.Errorf("with a gap: %d entries, %d skipped", n, skipped)
	}
}

func count(t *testing.T, rd *Reader) (n, skipped uint64) {
	t.Helper()
	defer rd.Close()
	for {
		ok, err := rd.Next(new(entry.Entry))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return n, rd.Skipped
		}
		n++
	}
}
