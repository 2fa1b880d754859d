package ring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

var (
	web  = pipe.Source{Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout}
	netd = pipe.Source{Kind: pipe.Service, Name: "netd", Stream: pipe.Log}
)

func testClock() (time.Time, time.Duration) {
	return time.UnixMicro(1_767_225_600_000_000), 3 * time.Second
}

func open(t testing.TB, dir string, limit int64) *Ring {
	t.Helper()
	r, dropped, err := Open(dir, limit, [16]byte{1, 2, 3}, testClock)
	if err != nil {
		t.Fatal(err)
	}
	if dropped != 0 {
		t.Errorf("Open dropped %d bytes", dropped)
	}
	return r
}

func sample(s pipe.Source, i int) *entry.Entry {
	wall, boottime := testClock()
	step := time.Duration(i) * time.Millisecond
	return &entry.Entry{Kind: s.Kind, Name: s.Name, Stream: s.Stream, Time: wall.Add(step), Boottime: boottime + step,
		Priority: 6}
}

func fill(t testing.TB, r *Ring, s pipe.Source, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := r.Append(sample(s, i), fmt.Appendf(nil, "line %d", i), int64(i+1)*10); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, r *Ring, from uint64) []entry.Entry {
	t.Helper()
	rd := r.NewReader(from)
	defer rd.Close()
	var list []entry.Entry
	for {
		var e entry.Entry
		ok, err := rd.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return list
		}
		list = append(list, e)
	}
}

func TestRoundTrip(t *testing.T) {
	r := open(t, t.TempDir(), DefaultSize)
	defer r.Close()
	want := *sample(web, 5)
	want.Priority, want.PID, want.Cut, want.Message = 3, 42, true, "a\x00\xff\nb"
	if err := r.Append(&want, []byte(want.Message), 7); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, r, 0); len(got) != 0 {
		t.Errorf("before Commit: %v", got)
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	want.Boot = "01020300-0000-0000-0000-000000000000"
	if got := readAll(t, r, 0); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
}

func TestReopenKeepsEntriesAndCursors(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, DefaultSize)
	fill(t, r, web, 0, 10)
	fill(t, r, netd, 0, 3)
	if _, _, err := Open(dir, DefaultSize, [16]byte{}, testClock); err == nil {
		t.Error("a second writer was let in")
	}
	r.Close()
	r = open(t, dir, DefaultSize)
	defer r.Close()
	if a, b := r.Mark(web).Cursor, r.Mark(netd).Cursor; a != 100 || b != 30 {
		t.Errorf("cursors %d and %d, want 100 and 30", a, b)
	}
	fill(t, r, web, 10, 12)
	got := readAll(t, r, 0)
	if len(got) != 15 || got[14].Message != "line 11" || got[14].Seq != 14 {
		t.Errorf("%d entries, last %+v", len(got), got[len(got)-1])
	}
}

// A source that is forgotten and comes back starts from zero; a cursor of its former life would hide its lines.
func TestReopenTakesTheLatestLifeOfASource(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, DefaultSize)
	for range 4 {
		fill(t, r, web, 0, 10)
		r.Forget(web)
	}
	fill(t, r, web, 0, 1)
	r.Close()
	for range 20 { // which of them was taken was once left to the order of a map
		r = open(t, dir, DefaultSize)
		if got := r.Mark(web).Cursor; got != 10 {
			t.Errorf("cursor %d, want 10", got)
		}
		r.Close()
	}
}

func TestCursorsOutliveTheirEntries(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 64<<10)
	fill(t, r, netd, 0, 3)
	fill(t, r, web, 0, 20_000)
	if size := r.size(); size > 64<<10 {
		t.Errorf("ring holds %d bytes, budget %d", size, 64<<10)
	}
	r.Close()
	r = open(t, dir, 64<<10)
	defer r.Close()
	if got := r.Mark(netd).Cursor; got != 30 {
		t.Errorf("cursor of a source whose entries are gone is %d, want 30", got)
	}
	got := readAll(t, r, 0)
	if got[0].Seq == 0 || got[len(got)-1].Message != "line 19999" {
		t.Errorf("entries %d (%q) to %q", got[0].Seq, got[0].Message, got[len(got)-1].Message)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Seq != got[i-1].Seq+1 {
			t.Fatalf("gap after %d", got[i-1].Seq)
		}
	}
	r.Forget(netd)
	if err := r.rotate(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = open(t, dir, 64<<10)
	if got := r.Mark(netd).Cursor; got != 0 {
		t.Errorf("cursor of a forgotten source is %d", got)
	}
}

func TestTornTailIsDropped(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, DefaultSize)
	fill(t, r, web, 0, 10)
	path := r.path(0)
	r.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole) - 1; cut >= chunk.HeaderSize; cut -= 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, dropped, err := Open(dir, DefaultSize, [16]byte{1, 2, 3}, testClock)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		n := len(readAll(t, r, 0))
		if r.Mark(web).Cursor != int64(n)*10 || int(r.Next()) != n {
			t.Errorf("cut at %d: %d entries but cursor %d", cut, n, r.Mark(web).Cursor)
		}
		if n < 10 {
			fill(t, r, web, n, 10)
		}
		if n := len(readAll(t, r, 0)); n != 10 {
			t.Errorf("cut at %d (dropped %d): %d entries after writing the rest again", cut, dropped, n)
		}
		r.Close()
	}
}

func TestBrokenChunks(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, 1<<20)
	fill(t, r, web, 0, 20_000)
	if len(r.chunks) < 4 {
		t.Fatalf("%d chunks", len(r.chunks))
	}
	second, last := r.chunks[1], r.last()
	r.Close()
	spoil(t, r.path(second.first), second.size/2)
	spoil(t, r.path(last.first), 20)
	os.WriteFile(filepath.Join(dir, "junk"+chunk.Suffix), []byte("junk"), 0o600)
	os.WriteFile(filepath.Join(dir, chunk.FileName(7)+chunk.Suffix+".tmp"), nil, 0o600)

	r, dropped, err := Open(dir, 1<<20, [16]byte{}, testClock)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if want := last.size + 4; dropped != want {
		t.Errorf("dropped %d bytes, want %d", dropped, want)
	}
	rd := r.NewReader(0)
	defer rd.Close()
	n := uint64(0)
	for {
		ok, err := rd.Next(new(entry.Entry))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		n++
	}
	if rd.Skipped == 0 || n+rd.Skipped != r.Next() || r.Next() != last.first {
		t.Errorf("read %d, skipped %d, next %d", n, rd.Skipped, r.Next())
	}
	fill(t, r, web, 20_000, 20_100)
	if got := readAll(t, r, r.Next()-1); len(got) != 1 || got[0].Message != "line 20099" {
		t.Errorf("after going on: %v", got)
	}
}

// A chunk that breaks while it is being followed must neither stop the reader nor make it spin.
func TestBrokenNewestChunk(t *testing.T) {
	r := open(t, t.TempDir(), DefaultSize)
	defer r.Close()
	fill(t, r, web, 0, 10)
	spoil(t, r.path(0), r.last().size-5)
	rd := r.NewReader(0)
	defer rd.Close()
	n := 0
	for ok, err := rd.Next(new(entry.Entry)); ok; ok, err = rd.Next(new(entry.Entry)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 9 || rd.Skipped != 1 || rd.Seq() != r.Next() {
		t.Errorf("read %d, skipped %d, waits for %d of %d", n, rd.Skipped, rd.Seq(), r.Next())
	}
}

func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x55
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTail(t *testing.T) {
	r := open(t, t.TempDir(), 1<<20)
	defer r.Close()
	fill(t, r, netd, 0, 2)
	fill(t, r, web, 0, 3000)
	fill(t, r, netd, 2, 4)
	isNetd := func(e *entry.Entry) bool { return e.Name == "netd" }
	for _, test := range []struct {
		n    int
		keep func(*entry.Entry) bool
		want uint64
	}{{0, nil, 3004}, {1, nil, 3003}, {10, nil, 2994}, {9999, nil, 0}, {2, isNetd, 3002}, {3, isNetd, 1},
		{5, isNetd, 0}} {
		if got, _, err := r.Tail(test.n, test.keep); err != nil || got != test.want {
			t.Errorf("Tail(%d) = %d, %v, want %d", test.n, got, err, test.want)
		}
	}
}

func TestFollowWhileWriting(t *testing.T) {
	r := open(t, t.TempDir(), DefaultSize)
	defer r.Close()
	const lines = 50_000
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			rd := r.NewReader(0)
			defer rd.Close()
			var e entry.Entry
			for want := range lines {
				for {
					ok, err := rd.Next(&e)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						break
					}
					<-r.Changed(rd.Seq())
				}
				if e.Message != fmt.Sprintf("line %d", want) || e.Seq != uint64(want) {
					t.Errorf("read %d %q, want line %d", e.Seq, e.Message, want)
					return
				}
			}
		})
	}
	for i := 0; i < lines; i += 50 {
		fill(t, r, web, i, i+50)
	}
	wg.Wait()
}

func TestLongMessageIsCut(t *testing.T) {
	r := open(t, t.TempDir(), DefaultSize)
	defer r.Close()
	if err := r.Append(sample(web, 0), make([]byte, 3*entry.MaxMessage), 1); err != nil {
		t.Fatal(err)
	}
	fill(t, r, web, 1, 2)
	if got := readAll(t, r, 0); len(got) != 2 || len(got[0].Message) != entry.MaxMessage {
		t.Errorf("%d entries", len(got))
	}
}

const helperEnv = "LOGRING_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "write":
		writeForEver()
	case "full":
		fullFileSystem()
	}
	os.Exit(m.Run())
}

// A writer killed at any moment leaves a ring whose cursor is that of its last entry.
func TestWriterKilled(t *testing.T) {
	dir := t.TempDir()
	for round := range 25 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), helperEnv+"=write", "RING="+dir)
		wrote, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, wrote, int64(50+round*37)); err != nil {
			t.Errorf("round %d: the writer ends by itself: %v", round, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	r, _, err := Open(dir, 256<<10, [16]byte{}, testClock)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := readAll(t, r, 0)
	if len(got) < 100 {
		t.Fatalf("only %d entries", len(got))
	}
	for i, e := range got {
		if e.Message != fmt.Sprintf("line %d", e.Seq) || i > 0 && e.Seq != got[i-1].Seq+1 {
			t.Fatalf("entry %d is %q after %d", e.Seq, e.Message, got[max(i-1, 0)].Seq)
		}
	}
	if last := got[len(got)-1]; r.Mark(web).Cursor != int64(last.Seq+1)*10 {
		t.Errorf("cursor %d after entry %d", r.Mark(web).Cursor, last.Seq)
	}
}

// writeForEver writes a byte to its output for each line, as long as somebody takes them.
func writeForEver() {
	r, _, err := Open(os.Getenv("RING"), 256<<10, [16]byte{}, testClock)
	if err != nil {
		panic(err)
	}
	for i := int(r.Mark(web).Cursor / 10); ; i++ {
		if err := r.Append(sample(web, i), fmt.Appendf(nil, "line %d", i), int64(i+1)*10); err != nil {
			panic(err)
		}
		if i%7 == 0 {
			if err := r.Commit(); err != nil {
				panic(err)
			}
		}
		os.Stdout.Write([]byte{'.'}) // a pipe that is full has it wait, which is a moment as good as another
	}
}

// On a full file system the ring lives on in the memory that it has.
func TestFileSystemFull(t *testing.T) {
	testenv.NeedRoot(t, "a mount namespace")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=full", "RING="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullFileSystem() {
	dir := os.Getenv("RING")
	check(unix.Mount("ring", dir, "tmpfs", 0, "size=512k"))
	r, _, err := Open(dir, 8<<20, [16]byte{}, testClock)
	check(err)
	add := func(from, to int) {
		for i := from; i < to; i++ {
			check(r.Append(sample(web, i), []byte(strings.Repeat("x", 100)), int64(i+1)))
		}
		check(r.Commit())
	}
	add(0, 20_000)
	if r.Oldest() == 0 || r.Next() != 20_000 {
		check(fmt.Errorf("ring holds %d to %d", r.Oldest(), r.Next()))
	}
	// Now somebody else takes the rest, so that not even the newest chunk can grow.
	junk, err := os.Create(filepath.Join(dir, "junk"))
	check(err)
	for r.Shrink() {
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = junk.Write(block)
	}
	for i := 20_000; err == nil || errors.Is(err, unix.ENOSPC) && i < 30_000; i++ {
		if err = r.Append(sample(web, i), []byte(strings.Repeat("x", 100)), int64(i+1)); err == nil && i%10 == 0 {
			err = r.Commit()
		}
		if err != nil {
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		check(fmt.Errorf("no room gave %v", err))
	}
	check(junk.Truncate(0))
	check(r.Commit())
	end := r.Next()
	check(r.Close())
	r, dropped, err := Open(dir, 8<<20, [16]byte{}, testClock)
	check(err)
	if dropped != 0 || r.Next() != end || r.Mark(web).Cursor != int64(end) {
		check(fmt.Errorf("reopened at %d, cursor %d, dropped %d; want %d", r.Next(), r.Mark(web).Cursor, dropped, end))
	}
	os.Exit(0)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func BenchmarkAppend(b *testing.B) {
	r := open(b, benchDir(b), DefaultSize)
	defer r.Close()
	message := []byte(strings.Repeat("x", 100))
	e := sample(web, 1)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := r.Append(e, message, int64(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkRead(b *testing.B) {
	r := open(b, benchDir(b), DefaultSize)
	defer r.Close()
	fill(b, r, web, 0, 100_000)
	rd := r.NewReader(0)
	var e entry.Entry
	for b.Loop() {
		if ok, err := rd.Next(&e); err != nil {
			b.Fatal(err)
		} else if !ok {
			rd.Close()
			rd = r.NewReader(0)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// benchDir prefers a tmpfs, which is where the ring lies on a device.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "ring")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
