package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/ring"
)

// An op is one change that the archive asked of its disk. The recorded ones are played back up to any point.
type op struct {
	kind     string // mkdir, create, rename, remove, write, truncate, sync, flushed
	name, to string
	off      int64
	data     []byte
	count    int // of flushed: entries that were promised to be safe
}

// recorder is the real disk with a memory.
type recorder struct {
	disk
	ops *[]op
}

func (r recorder) note(o op, err error) error {
	if err == nil {
		*r.ops = append(*r.ops, o)
	}
	return err
}
func (r recorder) mkdir(name string) error {
	return r.note(op{kind: "mkdir", name: name}, r.disk.mkdir(name))
}
func (r recorder) rename(from, to string) error {
	return r.note(op{kind: "rename", name: from, to: to}, r.disk.rename(from, to))
}
func (r recorder) remove(name string) error {
	return r.note(op{kind: "remove", name: name}, r.disk.remove(name))
}
func (r recorder) sync(dir string) error {
	return r.note(op{kind: "sync", name: dir}, r.disk.sync(dir))
}
func (r recorder) create(name string) (file, error) {
	f, err := r.disk.create(name)
	return recorded{f, &name, r}, r.note(op{kind: "create", name: name}, err)
}
func (r recorder) open(name string) (file, error) {
	f, err := r.disk.open(name)
	return recorded{f, &name, r}, err
}

type recorded struct {
	file
	name *string
	r    recorder
}

// id is the file's name now: it was renamed after its making.
func (f recorded) id() string {
	if to := strings.TrimSuffix(*f.name, aside); f.file.same(to) {
		return to
	}
	return *f.name
}

func (f recorded) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.file.WriteAt(b, off)
	return n, f.r.note(op{kind: "write", name: f.id(), off: off, data: slices.Clone(b)}, err)
}
func (f recorded) Truncate(size int64) error {
	return f.r.note(op{kind: "truncate", name: f.id(), off: size}, f.file.Truncate(size))
}
func (f recorded) sync() error { return f.r.note(op{kind: "sync", name: f.id()}, f.file.sync()) }

// recordedFlush is Archive.flush on a recorder.
func recordedFlush(t testing.TB, c Config, ops *[]op) {
	t.Helper()
	dir, err := c.Place.Open()
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWriter(recorder{d, ops}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.flush(t.Context(), c.Ring); err != nil {
		t.Fatal(err)
	}
	*ops = append(*ops, op{kind: "flushed", name: string([]byte{c.Boot[0]}), count: int(w.next)})
}

// image is what a disk holds: content by name, nil for a directory.
type image map[string][]byte

func (m image) apply(o op) {
	switch o.kind {
	case "mkdir":
		m[o.name] = nil
	case "create":
		m[o.name] = []byte{}
	case "rename":
		m[o.to] = m[o.name]
		delete(m, o.name)
	case "remove":
		delete(m, o.name)
	case "write":
		b := m[o.name]
		if end := int(o.off) + len(o.data); len(b) < end {
			b = append(slices.Clone(b), make([]byte, end-len(b))...)
		} else {
			b = slices.Clone(b)
		}
		copy(b[o.off:], o.data)
		m[o.name] = b
	case "truncate":
		m[o.name] = m[o.name][:o.off:o.off]
	}
}

func (m image) put(t testing.TB, dir string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(m)) { // directories come before what is in them
		path := filepath.Join(dir, name)
		err := error(nil)
		if m[name] == nil {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, m[name], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// states gives what the disk may hold when the power goes after n ops: a file system with a journal has all changes of
// names and sizes up to some moment since the last sync, and of the bytes that were written since then all, none or a
// part.
func states(ops []op, n int, visit func(how string, m image)) {
	synced := 0
	for i, o := range ops[:n] {
		if o.kind == "sync" {
			synced = i + 1
		}
	}
	base := image{}
	for _, o := range ops[:synced] {
		base.apply(o)
	}
	for upto := synced; upto <= n; upto++ {
		whole := maps.Clone(base)
		for _, o := range ops[synced:upto] {
			whole.apply(o)
		}
		visit(fmt.Sprintf("all up to %d", upto), whole)
		for i, o := range ops[synced:upto] {
			if o.kind != "write" {
				continue
			}
			for _, part := range []int{0, 1, len(o.data) / 2, len(o.data) - 1} {
				torn := maps.Clone(base)
				for j, p := range ops[synced:upto] {
					if j == i { // the size is there, the bytes behind the part are not
						p.data = append(slices.Clone(o.data[:part]), make([]byte, len(o.data)-part)...)
					}
					torn.apply(p)
				}
				visit(fmt.Sprintf("all up to %d, of write %d %d bytes", upto, synced+i, part), torn)
			}
		}
		if upto > synced && ops[upto-1].kind == "write" {
			short := maps.Clone(whole)
			if o := ops[upto-1]; short[o.name] != nil {
				short[o.name] = short[o.name][:len(short[o.name])-len(o.data)/3]
			}
			visit(fmt.Sprintf("all up to %d, the last cut short", upto), short)
		}
	}
}

// The power goes at every moment of several boots. Of each, what was flushed before is there, whole, and in its order;
// the next boot goes on from any of these states.
func TestEveryCut(t *testing.T) {
	dir := t.TempDir()
	var ops []op
	total := map[byte]int{}
	for number := 1; number <= 3; number++ {
		l := newLife(t, number, ring.DefaultSize)
		c := l.config(dir, nil)
		c.Bytes = 96 << 10 // the last boots make the first ones go
		for _, lines := range []int{20, 3000, 1, 2500} {
			l.say(lines, 6)
			recordedFlush(t, c, &ops)
		}
		total[byte(number)] = l.said
	}
	seen := 0
	for n := range len(ops) + 1 {
		states(ops, n, func(how string, m image) {
			seen++
			judge(t, ops, n, how, m, total)
		})
	}
	t.Logf("%d ops, %d states", len(ops), seen)
	if evicted := slices.ContainsFunc(ops, func(o op) bool { return o.kind == "remove" }); seen < 200 || !evicted {
		t.Errorf("only %d states; oldest given up: %v", seen, evicted)
	}
}

func judge(t *testing.T, ops []op, n int, how string, m image, total map[byte]int) {
	t.Helper()
	dir := memory(t)
	defer os.RemoveAll(dir)
	m.put(t, dir)
	counts, order := readBack(t, dir)
	if !slices.IsSorted(order) {
		t.Errorf("cut after %d, %s: boots in order %v", n, how, order)
	}
	promised := map[byte]int{}
	removed := false
	for _, o := range ops[:n] {
		if o.kind == "flushed" {
			promised[o.name[0]] = o.count
		}
		removed = removed || o.kind == "remove"
	}
	for number, want := range promised {
		if got := counts[number]; got < want && !removed {
			t.Errorf("cut after %d, %s: boot %d has %d entries, %d were flushed", n, how, number, got, want)
		}
	}
	for number, got := range counts {
		if got > total[number] {
			t.Errorf("cut after %d, %s: boot %d has %d entries, more than were said", n, how, number, got)
		}
	}
	next := newLifeIn(t, 9)
	defer next.ring.Close()
	next.say(30, 6)
	c := next.config(dir, nil)
	flush(t, c)
	after, order := readBack(t, dir)
	if after[9] != 30 || order[len(order)-1] != 9 || len(after) < len(counts) {
		t.Errorf("cut after %d, %s: after the next boot %v in %v, before it %v", n, how, after, order, counts)
	}
	for number, got := range counts {
		if after[number] != got {
			t.Errorf("cut after %d, %s: the next boot left %d of %d entries of boot %d", n, how, after[number], got,
				number)
		}
	}
}

// memory is a directory where waiting for the disk takes no time.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "archive")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newLifeIn is newLife without a clean-up, for thousands of them.
func newLifeIn(t testing.TB, number int) *life {
	t.Helper()
	dir := memory(t)
	l := &life{t: t, boot: [16]byte{byte(number), 0xb0}}
	ring, _, err := ring.Open(dir, 64<<10, l.boot, l.clock)
	if err != nil {
		t.Fatal(err)
	}
	l.ring = ring
	return l
}

// The process, not the power, goes at every moment: the same boot goes on from what the file system has, exactly.
func TestEveryKill(t *testing.T) {
	dir := t.TempDir()
	l := newLife(t, 1, ring.DefaultSize)
	c := l.config(dir, nil)
	c.Bytes = 1 << 20
	var ops []op
	for _, lines := range []int{20, 3000, 1, 2500} {
		l.say(lines, 6)
		recordedFlush(t, c, &ops)
	}
	for n := range len(ops) + 1 {
		m := image{}
		for _, o := range ops[:n] {
			m.apply(o)
		}
		states := []image{m}
		if n < len(ops) && ops[n].kind == "write" { // killed within it
			half := maps.Clone(m)
			o := ops[n]
			o.data = o.data[:len(o.data)/2]
			half.apply(o)
			states = append(states, half)
		}
		for _, m := range states {
			dir := t.TempDir()
			m.put(t, dir)
			c.Place = dirPlace{dir}
			flush(t, c)
			if counts, order := readBack(t, dir); counts[1] != l.said || len(order) != 1 {
				t.Errorf("killed after %d ops: %d of %d entries, boots %v", n, counts[1], l.said, order)
			}
		}
	}
}

// broken fails the nth call of any kind with err.
type broken struct {
	disk
	left *int
	err  error
}

func (b broken) fails() error {
	*b.left--
	if *b.left == 0 {
		return b.err
	}
	return nil
}
func (b broken) mkdir(name string) error { return errors.Join(b.fails(), b.disk.mkdir(name)) }
func (b broken) rename(from, to string) error {
	if err := b.fails(); err != nil {
		return err
	}
	return b.disk.rename(from, to)
}
func (b broken) sync(dir string) error { return errors.Join(b.fails(), b.disk.sync(dir)) }
func (b broken) create(name string) (file, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	f, err := b.disk.create(name)
	return brokenFile{f, b}, err
}
func (b broken) open(name string) (file, error) {
	if err := b.fails(); err != nil {
		return nil, err
	}
	f, err := b.disk.open(name)
	return brokenFile{f, b}, err
}

type brokenFile struct {
	file
	b broken
}

func (f brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.b.fails(); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}
func (f brokenFile) sync() error { return errors.Join(f.b.fails(), f.file.sync()) }

// Each call to the disk fails once, at each place; the next flush has everything, once.
func TestEveryFailure(t *testing.T) {
	failure := errors.New("input/output error")
	for at := 1; ; at++ {
		dir := t.TempDir()
		l := newLife(t, 1, ring.DefaultSize)
		left := at
		a := New(l.config(dir, slog.New(slog.DiscardHandler)))
		for _, lines := range []int{20, 3000, 1} {
			l.say(lines, 6)
			a.drop()
			d := open(t, dir)
			w, err := newWriter(broken{d, &left, failure}, a.Config)
			if err != nil {
				d.close()
				if !errors.Is(err, failure) {
					t.Fatal(err)
				}
				continue
			}
			a.out = w
			if err := a.out.flush(context.Background(), l.ring); err != nil && !errors.Is(err, failure) {
				t.Fatal(err)
			} else if err == nil {
				a.close()
			}
		}
		a.drop()
		flush(t, a.Config)
		if counts, _ := readBack(t, dir); counts[1] != l.said {
			t.Errorf("call %d failed: %d of %d entries", at, counts[1], l.said)
		}
		if left > 0 {
			t.Logf("%d calls", at)
			if at < 10 {
				t.Errorf("only %d calls", at)
			}
			return
		}
	}
}

func open(t testing.TB, dir string) disk {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := openDisk(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whatever lies in the directory, taking stock and going on do not panic, and what is written then is there.
func FuzzDirectory(f *testing.F) {
	dir := f.TempDir()
	l := newLife(f, 1, ring.DefaultSize)
	l.say(40, 6)
	flush(f, l.config(dir, nil))
	whole, err := os.ReadFile(filepath.Join(dir, ring.BootDir(1, l.boot), chunk.FileName(0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 100, byte(1), "junk")
	f.Add(whole[:len(whole)-3], 8, byte(3), chunk.FileName(40))
	f.Add(whole[:64], 60, byte(0), chunk.FileName(40)+aside)
	f.Add([]byte{}, 0, byte(0), "x/y")
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte, name string) {
		b = slices.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		dir := memory(t)
		for _, number := range []int{1, 2} {
			boot := filepath.Join(dir, ring.BootDir(number, [16]byte{byte(number), 0xb0}))
			if err := os.MkdirAll(boot, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(boot, chunk.FileName(0)), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if fs.ValidPath(name) && !strings.ContainsAny(name, "/\x00") && len(name) < 200 && name != "." {
				_ = os.WriteFile(filepath.Join(boot, name), b, 0o600) // any name that the file system takes
			}
		}
		l := newLifeIn(t, 2)
		defer l.ring.Close()
		l.say(60, 6)
		flush(t, l.config(dir, nil))
		boots, _, err := ring.Boots(dir)
		if err != nil || len(boots) == 0 {
			t.Fatalf("%d boots, %v", len(boots), err)
		}
		for _, boot := range boots {
			rd := boot.NewReader(0)
			for found := true; found; {
				if found, err = rd.Next(new(entry.Entry)); err != nil {
					t.Fatal(err)
				}
			}
			rd.Close()
		}
	})
}
