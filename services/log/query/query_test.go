package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/control"
	"resinos/services/log/chunk"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
	"resinos/services/moment"
)

func FuzzParseQuery(f *testing.F) {
	f.Add([]byte(`{"version":1,"op":"log","args":{"names":["hello"],"last":10,"follow":true,"priority":3}}`))
	f.Add([]byte(`{"version":2,"op":"log"}`))
	f.Add([]byte(`{"version":1,"op":"log","args":{"last":-5}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, got, err := parseQuery(b)
		if err == nil && got.check() != nil {
			t.Errorf("parseQuery(%q) = %+v", b, got)
		}
		got.match(&entry.Entry{Name: "hello.web"}) // must not panic whatever the filter
	})
}

// FuzzAnswer is the client's side: whatever it is told, it does not panic.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-01T00:00:00Z","message":"x"}`))
	f.Add([]byte(`{"version":1,"ok":false,"error":"no","hint":"yes"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		take(b, func(entry.Entry) error { return nil })
	})
}

func TestFilterMatch(t *testing.T) {
	warning := 4
	for _, test := range []struct {
		filter Filter
		entry  entry.Entry
		want   bool
	}{
		{Filter{}, entry.Entry{Priority: 7}, true},
		{Filter{Names: []string{"hello"}}, entry.Entry{Name: "hello.web"}, true},
		{Filter{Names: []string{"hello.web"}}, entry.Entry{Name: "hello.web"}, true},
		{Filter{Names: []string{"hello.web"}}, entry.Entry{Name: "hello.webby"}, false},
		{Filter{Names: []string{"hello.web"}}, entry.Entry{Name: "hello.web.2"}, true},
		{Filter{Names: []string{"hell"}}, entry.Entry{Name: "hello.web"}, false},
		{Filter{Names: []string{"hello."}}, entry.Entry{Name: "hello.web"}, false},
		{Filter{Names: []string{"a", "netd"}}, entry.Entry{Name: "netd"}, true},
		{Filter{Kinds: []string{"kernel"}}, entry.Entry{Kind: "service"}, false},
		{Filter{Priority: &warning}, entry.Entry{Priority: 4}, true},
		{Filter{Priority: &warning}, entry.Entry{Priority: 5}, false},
		{Filter{Since: &moment.Moment{Boottime: time.Second}}, entry.Entry{Boottime: time.Second}, true},
		{Filter{Until: &moment.Moment{Boottime: time.Second}}, entry.Entry{Boottime: time.Second}, false},
		{Filter{Since: &moment.Moment{Time: time.Unix(5, 0)}}, entry.Entry{Time: time.Unix(4, 0)}, false},
	} {
		if got := test.filter.match(&test.entry); got != test.want {
			t.Errorf("match(%+v, %+v) = %v", test.filter, test.entry, got)
		}
	}
}

func TestIsBoot(t *testing.T) {
	for text, want := range map[string]bool{
		"0": true, "-1": true, "-12": true, "1": false, "+0": false, "-": false, "12": false, "abc": false,
		"01ab": true, "-1234": false,
		"01020304-0000-0000-0000-000000000000": true, "xyz1": false, "": false,
	} {
		if text != "" && IsBoot(text) != want {
			t.Errorf("IsBoot(%q) = %v", text, !want)
		}
	}
}

// writeBoot makes a ring of one boot with n entries, all of whose chunks go to the archive; of a live one without the
// newest.
func writeBoot(t *testing.T, archive string, number int, n int, live bool) *ring.Ring {
	t.Helper()
	id := [16]byte{0xb0 + byte(number), 0xaa}
	start := time.Date(2026, 11, number, 10, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	clock := func() (time.Time, time.Duration) { return start, time.Second }
	r, _, err := ring.Open(dir, 512<<10, id, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	to := filepath.Join(archive, ring.BootDir(number, id))
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := entry.Entry{
			Kind: pipe.Service, Name: "a", Stream: pipe.Log, Priority: 6,
			Time: start.Add(time.Duration(i) * time.Second), Boottime: time.Duration(i) * time.Second,
		}
		if err := r.Append(&e, fmt.Appendf(nil, "boot %d line %d %s", number, i, strings.Repeat("x", 50)),
			int64(i)); err != nil {
			t.Fatal(err)
		}
		if i%200 == 0 || i == n-1 {
			if err := r.Commit(); err != nil {
				t.Fatal(err)
			}
			keep(t, dir, to)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.Pack(ctx, func(err error) { t.Error(err) }, func(bool) { cancel() })
	keep(t, dir, to)
	if live { // the archive has sealed chunks only
		files, _ := filepath.Glob(filepath.Join(to, "*.chunk"))
		os.Remove(files[len(files)-1])
	}
	return r
}

// keep copies what the ring has.
func keep(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "*.chunk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(to, filepath.Base(file))); err == nil && len(files) > 2 &&
			file != files[len(files)-1] && file != files[len(files)-2] {
			continue // sealed and copied
		}
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(file)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Two earlier boots lie in a directory; of this boot the ring has lost the beginning, which the directory has.
func TestEarlierBoots(t *testing.T) {
	testenv.NeedRoot(t, "a log that answers nobody else")
	archive := t.TempDir()
	writeBoot(t, archive, 1, 100, false)
	writeBoot(t, archive, 2, 5000, false)
	live := writeBoot(t, archive, 3, 10_000, true)
	if live.Oldest() == 0 {
		t.Fatal("the ring has lost nothing")
	}
	socket := filepath.Join(t.TempDir(), "sock")
	s, err := Listen(socket, Store{Ring: live, Archive: archive}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()

	spans, err := Boots(ctx, socket)
	if err != nil || len(spans) != 3 {
		t.Fatalf("%+v, %v", spans, err)
	}
	for i, span := range spans {
		day := i + 1
		last := []int{99, 4999, 9999}[i]
		start := time.Date(2026, 11, day, 10, 0, 0, 0, time.UTC)
		if span.Number != i-2 || !strings.HasPrefix(span.ID, fmt.Sprintf("b%d", day)) || !span.First.Equal(start) ||
			!span.Last.Equal(start.Add(time.Duration(last)*time.Second)) {
			t.Errorf("span %d: %+v", i, span)
		}
	}
	eleven := moment.Moment{Time: time.Date(2026, 11, 2, 11, 0, 0, 0, time.UTC)}
	for _, test := range []struct {
		f           Filter
		count       int
		first, last string
	}{
		{Filter{}, 15_100, "boot 1 line 0 ", "boot 3 line 9999 "},
		{Filter{Boot: "0"}, 10_000, "boot 3 line 0 ", "boot 3 line 9999 "},
		{Filter{Boot: "-1"}, 5000, "boot 2 line 0 ", "boot 2 line 4999 "},
		{Filter{Boot: "b1aa"}, 100, "boot 1 line 0 ", "boot 1 line 99 "},
		{Filter{Boot: "-2", Last: 2}, 2, "boot 1 line 98 ", "boot 1 line 99 "},
		{Filter{Last: 15_050}, 15_050, "boot 1 line 50 ", "boot 3 line 9999 "},
		{Filter{Boot: "-1", Until: &eleven, Last: 1}, 1, "boot 2 line 3599 ", "boot 2 line 3599 "},
		{Filter{Boot: "-1", Since: &eleven}, 1400, "boot 2 line 3600 ", "boot 2 line 4999 "},
		{Filter{Since: &moment.Moment{Boottime: 9000 * time.Second}}, 1000, "boot 3 line 9000 ", "boot 3 line 9999 "},
		{Filter{Last: -1}, 0, "", ""},
	} {
		var got []string
		err := Query(ctx, socket, test.f, func(e entry.Entry) error { got = append(got, e.Message); return nil })
		if err != nil || len(got) != test.count {
			t.Errorf("%+v: %d entries, %v, want %d", test.f, len(got), err, test.count)
			continue
		}
		if test.count > 0 && (!strings.HasPrefix(got[0], test.first) ||
			!strings.HasPrefix(got[len(got)-1], test.last)) {
			t.Errorf("%+v: %q to %q", test.f, got[0], got[len(got)-1])
		}
	}
	for _, boot := range []string{"-3", "ffff", "7"} {
		err := Query(ctx, socket, Filter{Boot: boot}, func(entry.Entry) error { return nil })
		if refused := new(control.Error); !errors.As(err, &refused) || refused.Hint == "" {
			t.Errorf("boot %q gave %v", boot, err)
		}
	}
}

// What lies in the directory of boots does not hide the ring: neither a directory that cannot be read, nor one of this
// boot that is numbered before others or belongs to a ring which somebody has removed.
func TestOddArchives(t *testing.T) {
	dir := t.TempDir()
	live := writeBoot(t, dir, 3, 10_000, true)
	writeBoot(t, dir, 5, 100, false) // numbered later than this boot
	older := filepath.Join(dir, ring.BootDir(2, [16]byte{0xb3, 0xaa}))
	lost := writeBoot(t, t.TempDir(), 3, 50, false) // this boot's first ring
	if err := os.Mkdir(older, 0o700); err != nil {
		t.Fatal(err)
	}
	g := chunk.Grow([16]byte{0xb3, 0xaa}, &entry.Entry{})
	rd := lost.NewReader(0)
	defer rd.Close()
	var e entry.Entry
	for found, err := rd.Next(&e); found || err != nil; found, err = rd.Next(&e) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	b, err := g.Take()
	if err == nil {
		err = os.WriteFile(filepath.Join(older, chunk.FileName(0)), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	store := Store{Ring: live, Archive: dir}
	parts, err := store.parts()
	if err != nil {
		t.Fatal(err)
	}
	list, err := spans(parts)
	if err != nil || len(list) != 2 || list[1].ID != live.BootID() || list[1].Number != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	own, err := choose(parts, "0")
	if err != nil || len(own) != 3 || own[0].until <= live.Next() || own[1].until != live.Oldest() || !own[2].live {
		t.Errorf("%d parts, %v", len(own), err)
	}
	store.Archive = filepath.Join(dir, "file")
	if err := os.WriteFile(store.Archive, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if parts, err := store.parts(); err == nil || len(parts) != 1 || !parts[0].live {
		t.Errorf("of a directory that is none: %d parts, %v", len(parts), err)
	}
}

// Entries that the ring lost before they came to disk are told between what is there.
func TestGapBeforeTheRing(t *testing.T) {
	dir := t.TempDir()
	live := writeBoot(t, dir, 3, 10_000, true)
	bootDir := filepath.Join(dir, ring.BootDir(3, [16]byte{0xb3, 0xaa}))
	files, err := os.ReadDir(bootDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files[1:] {
		if err := os.Remove(filepath.Join(bootDir, file.Name())); err != nil {
			t.Fatal(err)
		}
	}
	testenv.NeedRoot(t, "a log that answers nobody else")
	socket := filepath.Join(t.TempDir(), "sock")
	s, err := Listen(socket, Store{Ring: live, Archive: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	kept, gone := 0, 0
	err = Query(ctx, socket, Filter{Boot: "0"}, func(e entry.Entry) error {
		var n int
		if _, err := fmt.Sscanf(e.Message, "%d entries were gone", &n); err == nil {
			gone += n
		} else {
			kept++
		}
		return nil
	})
	if err != nil || gone == 0 || kept+gone != 10_000 {
		t.Errorf("%d entries and %d told to be gone, %v", kept, gone, err)
	}
}
