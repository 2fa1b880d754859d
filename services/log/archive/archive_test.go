package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
)

var (
	web  = pipe.Source{Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout}
	netd = pipe.Source{Kind: pipe.Service, Name: "netd", Stream: pipe.Log}
)

// dirPlace is a directory that is always there.
type dirPlace struct{ dir string }

func (p dirPlace) Open() (*os.File, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return os.Open(p.dir)
}
func (dirPlace) Changed() <-chan struct{} { return nil }
func (dirPlace) Close()                   {}

// A life is one boot of a device whose clock says wall.
type life struct {
	t    testing.TB
	boot [16]byte
	ring *ring.Ring
	wall time.Time
	said int // lines so far
}

func newLife(t testing.TB, number int, limit int64) *life {
	t.Helper()
	l := &life{t: t, boot: [16]byte{byte(number), 0xb0}, wall: time.Unix(int64(number)*3600, 0)}
	l.openRing(t.TempDir(), limit)
	return l
}

func (l *life) openRing(dir string, limit int64) {
	l.t.Helper()
	ring, _, err := ring.Open(dir, limit, l.boot, l.clock)
	if err != nil {
		l.t.Fatal(err)
	}
	l.ring = ring
	l.t.Cleanup(func() { ring.Close() })
}

func (l *life) clock() (time.Time, time.Duration) { return l.wall, time.Second }

// text is what line i of a boot says; its seq is i.
func (l *life) text(i int) string { return fmt.Sprintf("boot %d line %d", l.boot[0], i) }

func (l *life) say(n, priority int) {
	l.t.Helper()
	for range n {
		s := web
		if l.said%3 == 0 {
			s = netd
		}
		e := entry.Entry{
			Kind: s.Kind, Name: s.Name, Stream: s.Stream, Priority: priority, PID: 7,
			Time:     l.wall.Add(time.Duration(l.said) * time.Millisecond),
			Boottime: time.Duration(l.said) * time.Millisecond,
		}
		if err := l.ring.Append(&e, []byte(l.text(l.said)), int64(l.said)); err != nil {
			l.t.Fatal(err)
		}
		l.said++
	}
	if err := l.ring.Commit(); err != nil {
		l.t.Fatal(err)
	}
}

// config keeps the life's log in dir.
func (l *life) config(dir string, log *slog.Logger) Config {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return Config{Ring: l.ring, Boot: l.boot, Place: dirPlace{dir}, Bytes: DefaultBytes,
		Wanted: func() bool { return true }, Log: log}
}

// readBack reads what dir has of every boot, and checks that each has its own lines, once each and without a gap.
func readBack(t testing.TB, dir string) (counts map[byte]int, order []byte) {
	t.Helper()
	boots, _, err := ring.Boots(dir)
	if err != nil {
		t.Fatal(err)
	}
	counts = map[byte]int{}
	for _, b := range boots {
		number := b.ID[1] - '0'
		order = append(order, number)
		rd := b.NewReader(0)
		want := uint64(0)
		for first := true; ; first = false {
			var e entry.Entry
			found, err := rd.Next(&e)
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				break
			}
			if first {
				want = e.Seq
			}
			if text := fmt.Sprintf("boot %d line %d", number, e.Seq); e.Seq != want || e.Message != text || e.PID != 7 {
				t.Fatalf("boot %s: entry %d says %q, want %d, %q", b.ID, e.Seq, e.Message, want, text)
			}
			want++
			counts[number]++
		}
		rd.Close()
	}
	return counts, order
}

func flush(t testing.TB, c Config) {
	t.Helper()
	a := New(c)
	if err := a.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.close()
}

func TestBootsAreKeptInOrder(t *testing.T) {
	dir := t.TempDir()
	for number := 1; number <= 4; number++ {
		l := newLife(t, number, ring.DefaultSize)
		l.wall = time.Unix(int64(10-number), 0) // the clock goes backwards from boot to boot
		for range 3 {
			l.say(100*number, 6)
			flush(t, l.config(dir, nil)) // each by a logd of its own
		}
	}
	counts, order := readBack(t, dir)
	if string(order) != "\x01\x02\x03\x04" {
		t.Errorf("boots in order %v", order)
	}
	for number, n := range counts {
		if n != 300*int(number) {
			t.Errorf("boot %d has %d entries", number, n)
		}
	}
}

// Off means that there is not even a directory.
func TestOffWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	l := newLife(t, 1, ring.DefaultSize)
	c := l.config(dir, nil)
	c.Wanted = nil
	a := New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	l.say(1000, 0)
	if err := a.Flush(ctx); !errors.Is(err, ErrOff) {
		t.Errorf("Flush: %v", err)
	}
	cancel()
	<-done
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

// counter counts the flushes that reach the disk, by the chunk's size.
type counter struct {
	t    testing.TB
	dir  string
	last int64
}

// changed reports whether something was written since it was asked last.
func (c *counter) changed() bool {
	var sum int64
	err := filepath.WalkDir(c.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			st, failed := d.Info()
			if failed != nil {
				return failed
			}
			sum += st.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	was := c.last
	c.last = sum
	return sum != was
}

// running runs an archive in the bubble; stop ends it.
func running(t *testing.T, c Config) (a *Archive, stop func()) {
	a = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	var once sync.Once
	return a, func() { once.Do(func() { cancel(); <-done }) }
}

// after lets time pass and reports whether something was written.
func (c *counter) after(d time.Duration) bool {
	time.Sleep(d) // sleep: in the bubble of its callers
	synctest.Wait()
	return c.changed()
}

func TestWhenItIsFlushed(t *testing.T) {
	dir := t.TempDir()
	var l *life
	synctest.Test(t, func(t *testing.T) {
		l = newLife(t, 1, ring.DefaultSize)
		disk := &counter{t: t, dir: dir}
		_, stop := running(t, l.config(dir, nil))
		defer stop()
		steps := []struct {
			what     string
			n        int
			priority int
			wait     time.Duration
			want     bool
		}{
			{"the boot itself", 10, 6, firstWait - time.Second, false},
			{"its first flush", 0, 0, 2 * time.Second, true},
			{"nothing is said", 0, 0, 48 * time.Hour, false},
			{"a line", 1, 6, DefaultInterval - time.Second, false},
			{"more before the interval ends", 5, 4, 2 * time.Second, true},
			{"an error", 1, 3, urgentWait / 2, false},
			{"its explanation", 1, 6, urgentWait, true},
			{"error 2", 1, 0, 2 * time.Second, true},
			{"error 3", 1, 3, 2 * time.Second, true},
			{"error 4", 1, 3, 2 * time.Second, true},
			{"error 5", 1, 3, 2 * time.Second, true},
			{"error 6 waits", 1, 3, DefaultInterval - time.Second, false},
			{"until its turn", 0, 0, 2 * time.Second, true},
			{"an interval gave one back", 1, 3, 2 * time.Second, true},
			{"and no more", 1, 3, 2 * time.Second, false},
		}
		for _, s := range steps {
			if s.n > 0 {
				l.say(s.n, s.priority)
			}
			if got := disk.after(s.wait); got != s.want {
				t.Errorf("%s: written %v, want %v", s.what, got, s.want)
			}
		}
	})
	if counts, _ := readBack(t, dir); counts[1] != l.said {
		t.Errorf("%d of %d entries kept after the end", counts[1], l.said)
	}
}

// What would be lost from the ring is written before its time, but in large pieces.
func TestFloodIsFlushedInLargePieces(t *testing.T) {
	dir := t.TempDir()
	var l *life
	synctest.Test(t, func(t *testing.T) {
		l = newLife(t, 1, 512<<10)
		disk := &counter{t: t, dir: dir}
		_, stop := running(t, l.config(dir, nil))
		writes := 0
		for range 3000 {
			l.say(20, 6)
			if disk.after(time.Millisecond) {
				writes++
			}
		}
		stop()
		if writes < 3 || writes > 60 || l.ring.Oldest() == 0 {
			t.Errorf("%d writes for %d lines; the ring begins at %d", writes, l.said, l.ring.Oldest())
		}
	})
	if counts, _ := readBack(t, dir); counts[1] != l.said {
		t.Errorf("%d of %d entries kept", counts[1], l.said)
	}
}

func TestSwitchedWhileRunning(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "archive")
	var l *life
	synctest.Test(t, func(t *testing.T) {
		l = newLife(t, 1, ring.DefaultSize)
		disk := &counter{t: t, dir: parent}
		wanted, changed := false, make(chan struct{})
		c := l.config(dir, nil)
		c.Wanted, c.Changed = func() bool { return wanted }, changed
		_, stop := running(t, c)
		l.say(10, 0)
		if disk.after(time.Hour) {
			t.Error("written while off")
		}
		synctest.Wait()
		wanted = true
		changed <- struct{}{}
		if !disk.after(2 * time.Second) {
			t.Error("not written after it was switched on")
		}
		wanted = false
		changed <- struct{}{}
		l.say(10, 0)
		if disk.after(time.Hour) {
			t.Error("written after it was switched off")
		}
		wanted = true
		changed <- struct{}{}
		disk.after(2 * time.Second)
		wanted = false
		l.say(10, 0)
		changed <- struct{}{}
		stop()
		if disk.changed() {
			t.Error("written at the end, while off")
		}
	})
	if counts, _ := readBack(t, dir); counts[1] != 20 {
		t.Errorf("%d entries kept, want 20", counts[1])
	}
}

func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	l := newLife(t, 1, ring.DefaultSize)
	l.say(10, 6)
	first, second := New(l.config(dir, nil)), New(l.config(dir, nil))
	if err := first.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := second.flush(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("the second gave %v", err)
	}
	first.close()
	l.say(10, 6)
	if err := second.flush(t.Context()); err != nil {
		t.Error(err)
	}
	second.close()
	if counts, _ := readBack(t, dir); counts[1] != 20 {
		t.Errorf("%d entries kept", counts[1])
	}
}

// The budget holds after each flush, and the oldest goes first.
func TestBudget(t *testing.T) {
	dir := t.TempDir()
	const limit = 160 << 10
	for number := 1; number <= 6; number++ {
		l := newLife(t, number, ring.DefaultSize)
		c := l.config(dir, nil)
		c.Bytes = limit
		a := New(c)
		for range 8 {
			l.say(2000, 6)
			if err := a.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if used := a.out.store.used(); used > limit {
				t.Errorf("the store counts %d bytes, budget %d", used, limit)
			}
			if used := diskUse(t, dir); used > limit {
				t.Errorf("files take %d bytes, budget %d", used, limit)
			}
		}
		a.close()
	}
	counts, order := readBack(t, dir)
	if last := order[len(order)-1]; last != 6 || counts[6] < 2000 || counts[1] != 0 {
		t.Errorf("boots %v, entries %v", order, counts)
	}
	if directories, err := os.ReadDir(dir); err != nil || len(directories) != len(order) {
		t.Errorf("%d directories for %d boots, %v", len(directories), len(order), err)
	}
}

// diskUse is what dir's content takes in blocks.
func diskUse(t testing.TB, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := d.Info()
		if d.IsDir() {
			sum += blockSize
		} else {
			sum += blocks(st.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestStrangeThingsArePassedOver(t *testing.T) {
	dir := t.TempDir()
	old := newLife(t, 1, ring.DefaultSize)
	old.say(50, 6)
	flush(t, old.config(dir, nil))
	boot := filepath.Join(dir, ring.BootDir(1, old.boot))
	put := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content),
			0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := ring.BootDir(2, [16]byte{9})
	strange := []string{
		put("junk", "junk"), put("system.journal", "LPKSHHRH"), put(filepath.Base(boot)+"/notes", "x"),
		put(filepath.Base(boot)+"/zz.chunk", "x"),
		put(filepath.Base(boot)+"/"+chunk.FileName(7000), "no chunk"), put("99999999-x/y", ""),
		put(ring.BootDir(3, [16]byte{8}), "a file"),
		put(other+"/"+chunk.FileName(0), ""),
	}
	link := filepath.Join(boot, chunk.FileName(8000))
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	half := put(filepath.Base(boot)+"/"+chunk.FileName(9000)+aside, "half made")
	var said bytes.Buffer
	l := newLife(t, 4, ring.DefaultSize)
	l.say(50, 6)
	flush(t, l.config(dir, slog.New(slog.NewTextHandler(&said, nil))))
	if counts, _ := readBack(t, dir); counts[1] != 50 || counts[4] != 50 {
		t.Errorf("kept %v", counts)
	}
	for _, path := range append(strange, link) {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	}
	if _, err := os.Lstat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half made chunk: %v", err)
	}
	if n := strings.Count(said.String(), "unknown file, ignored"); n != maxSaid ||
		!strings.Contains(said.String(), "count=1") {
		t.Errorf("said %d times:\n%s", n, &said)
	}
}

// Somebody removes the files, or the directory, of a running archive: it begins again with what the ring has.
func TestRemovedUnderneath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	l := newLife(t, 1, ring.DefaultSize)
	a := New(l.config(dir, nil))
	defer a.close()
	for i, path := range []string{filepath.Join(dir, ring.BootDir(1, l.boot)), dir} {
		l.say(10, 6)
		if err := a.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		l.say(10, 6)
		if err := a.flush(t.Context()); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		if counts, _ := readBack(t, dir); counts[1] != l.said {
			t.Errorf("round %d: %d of %d entries", i, counts[1], l.said)
		}
	}
}

// A ring that is younger than what the boot has on flash counts from 0 again: its entries are not taken for old ones.
func TestRingBeganAnew(t *testing.T) {
	dir := t.TempDir()
	l := newLife(t, 1, ring.DefaultSize)
	l.say(100, 6)
	flush(t, l.config(dir, nil))
	again := newLife(t, 1, ring.DefaultSize)
	again.say(30, 6)
	flush(t, again.config(dir, nil))
	again.say(30, 6)
	flush(t, again.config(dir, nil))
	if counts, order := readBack(t, dir); len(order) != 2 || counts[1] != 160 {
		t.Errorf("boots %v, entries %v", order, counts)
	}
}

// A chunk whose size a damaged file system made up is not read into memory as long as it claims to be.
func TestHugeChunk(t *testing.T) {
	dir := t.TempDir()
	l := newLife(t, 1, ring.DefaultSize)
	l.say(100, 6)
	flush(t, l.config(dir, nil))
	chunk := filepath.Join(dir, ring.BootDir(1, l.boot), chunk.FileName(0))
	if err := os.Truncate(chunk, 1<<40); err != nil {
		testenv.Lacking(t, "a file system with holes: %v", err)
	}
	l.say(100, 6)
	flush(t, l.config(dir, nil))
	if counts, _ := readBack(t, dir); counts[1] != 200 {
		t.Errorf("kept %v", counts)
	}
	if st, err := os.Stat(chunk); err != nil || st.Size() > 1<<20 {
		t.Errorf("the chunk has still %d bytes, %v", st.Size(), err)
	}
}

// A source that was there before a gap, and comes again after it.
func TestGapBeginsAChunk(t *testing.T) {
	dir := t.TempDir()
	l := newLife(t, 1, 64<<10)
	l.say(100, 6)
	a := New(l.config(dir, nil))
	defer a.close()
	if err := a.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.say(20_000, 6) // more than the ring holds
	if err := a.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	boots, _, err := ring.Boots(dir)
	if err != nil || len(boots) != 1 {
		t.Fatal(boots, err)
	}
	rd := boots[0].NewReader(0)
	defer rd.Close()
	var e entry.Entry
	n := uint64(0)
	for {
		found, err := rd.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			break
		}
		if n++; e.Message != l.text(int(e.Seq)) {
			t.Fatalf("entry %d says %q", e.Seq, e.Message)
		}
	}
	if rd.Skipped == 0 || n+rd.Skipped != uint64(l.said) {
		t.Errorf("%d read, %d skipped of %d", n, rd.Skipped, l.said)
	}
}
