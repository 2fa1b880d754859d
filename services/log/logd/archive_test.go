package logd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/log/entry"
	"resinos/services/log/query"
	"resinos/services/log/ring"
)

// dirPlace is an archive's directory that is always there.
type dirPlace struct{ dir string }

func (p dirPlace) Open() (*os.File, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	return os.Open(p.dir)
}
func (dirPlace) Changed() <-chan struct{} { return nil }
func (dirPlace) Close()                   {}

// archiveIn keeps the log in dir.
func archiveIn(dir string) Archive {
	return Archive{Place: dirPlace{dir}, Dir: dir, Wanted: func() bool { return true }}
}

// archived reads what dir keeps of the only boot there is, and fails at a gap or a double.
func archived(t testing.TB, dir string) []entry.Entry {
	t.Helper()
	boots, strange, err := ring.Boots(dir)
	if err != nil || len(boots) > 1 || len(strange) > 0 {
		t.Fatalf("%d boots, strange %v, %v", len(boots), strange, err)
	}
	var list []entry.Entry
	for _, b := range boots {
		rd := b.NewReader(0)
		defer rd.Close()
		for {
			var e entry.Entry
			found, err := rd.Next(&e)
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				break
			}
			if want := uint64(len(list)); e.Seq != want {
				t.Fatalf("entry %d follows %d others", e.Seq, want)
			}
			list = append(list, e)
		}
	}
	return list
}

// What was said before the end is on flash after it, also what still lay in the pipe.
func TestArchiveHasTheLastWords(t *testing.T) {
	cfg := configIn(shmDir(t))
	dir := filepath.Join(t.TempDir(), "archive")
	cfg.Archive = archiveIn(dir)
	stop := start(t, cfg)
	file := producer(t, cfg, netd)
	fmt.Fprint(file, "first words\n")
	follow(t, cfg, query.Filter{}, 1)
	fmt.Fprint(file, strings.Repeat("words\n", 1000)+"last words\n")
	stop()
	got := archived(t, dir)
	if n := len(got); n != 1002 || got[n-1].Message != "last words" {
		t.Errorf("%d entries", n)
	}
}

func TestArchiveIsFlushedOnRequest(t *testing.T) {
	testenv.NeedRoot(t, "a log that answers nobody else")
	cfg := configIn(shmDir(t))
	dir := filepath.Join(t.TempDir(), "archive")
	stop := start(t, cfg)
	if err := query.Flush(t.Context(), cfg.Socket); err == nil || !strings.Contains(err.Error(), "not kept on disk") {
		t.Errorf("without an archive: %v", err)
	}
	stop()
	cfg.Archive = archiveIn(dir)
	start(t, cfg)
	fmt.Fprint(producer(t, cfg, netd), "hello\n")
	follow(t, cfg, query.Filter{}, 1)
	if err := query.Flush(t.Context(), cfg.Socket); err != nil {
		t.Error(err)
	}
	if got := archived(t, dir); len(got) != 1 || got[0].Message != "hello" {
		t.Errorf("%+v", got)
	}
	// The ring and the directory have the same entry: it is shown once.
	fmt.Fprint(producer(t, cfg, web), "next\n")
	if got := follow(t, cfg, query.Filter{}, 2); got[0].Message != "hello" || got[1].Message != "next" {
		t.Errorf("%+v", got)
	}
}

// logd is killed again and again while it writes: on flash there is each line once, and none is missing up to the last
// flush.
func TestArchiveOutlivesKills(t *testing.T) {
	testenv.NeedRoot(t, "a log that answers nobody else")
	base := shmDir(t)
	cfg := configIn(base)
	dir := filepath.Join(t.TempDir(), "archive")
	t.Setenv("LOGD_ARCHIVE", dir)
	file := producer(t, cfg, web)
	const lines, kills = 40_000, 20
	done, next := make(chan error, 1), make(chan struct{}, kills)
	go func() {
		var err error
		for i := range lines {
			if i%(lines/kills) == 0 {
				<-next
			}
			_, failed := fmt.Fprintf(file, "line %d\n", i)
			err = errors.Join(err, failed)
		}
		done <- err
	}()
	saved := 0
	for kill := range kills {
		cmd := logdProcess(t, base, NoKmsg)
		before := fileBytes(t, dir)
		next <- struct{}{}
		testenv.WaitFor(t, "a flush", func() bool { return fileBytes(t, dir) != before })
		if kill%4 == 3 { // on a busy host the others die before they have kept anything
			follow(t, cfg, query.Filter{Last: 1}, 1)
			if err := query.Flush(t.Context(), cfg.Socket); err != nil {
				t.Fatal(err)
			}
		}
		// It is flushing, or has just done so.
		<-time.After(time.Duration(kill%10) * 3 * time.Millisecond) // sleep: any moment will do
		cmd.Process.Kill()
		cmd.Wait()
		got := archived(t, dir)
		if len(got) < saved {
			t.Fatalf("after kill %d: %d entries on flash, %d before", kill, len(got), saved)
		}
		saved = len(got)
		for i, e := range got {
			if e.Message != fmt.Sprintf("line %d", i) {
				t.Fatalf("entry %d says %q", i, e.Message)
			}
		}
	}
	cfg.Archive = archiveIn(dir)
	stop := start(t, cfg)
	if err := testenv.Receive(t, "the end of the producer", done); err != nil {
		t.Fatal(err)
	}
	follow(t, cfg, query.Filter{}, lines)
	stop()
	if got := archived(t, dir); len(got) != lines || got[lines-1].Message != fmt.Sprintf("line %d", lines-1) {
		t.Errorf("%d of %d entries in the end", len(got), lines)
	}
	t.Logf("%d kills, %d entries on flash before the last life", kills, saved)
	if saved == 0 {
		t.Error("nothing was on flash before the last life: too quick to tell")
	}
}

// fileBytes is the size of all that lies in dir.
func fileBytes(t testing.TB, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			sum += st.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // not made yet, or renamed just now
		t.Fatal(err)
	}
	return sum
}

// A disk that cannot be read or written leaves the log in memory as it is.
func TestArchiveOnABrokenDisk(t *testing.T) {
	testenv.NeedRoot(t, "a log that answers nobody else")
	cfg := configIn(shmDir(t))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Archive = archiveIn(filepath.Join(file, "archive"))
	start(t, cfg)
	fmt.Fprint(producer(t, cfg, netd), "hello\n")
	if got := follow(t, cfg, query.Filter{}, 1); got[0].Message != "hello" {
		t.Errorf("%+v", got)
	}
	if err := query.Flush(t.Context(), cfg.Socket); err == nil {
		t.Error("flushed")
	}
	if spans, err := query.Boots(t.Context(), cfg.Socket); err != nil || len(spans) != 1 {
		t.Errorf("%+v, %v", spans, err)
	}
}

func TestRingFitsItsFileSystem(t *testing.T) {
	dir := shmDir(t)
	room, err := fileSystemSize(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ size, want int64 }{{minRing, minRing}, {room, room / 2}, {room / 2, room / 2},
		{1 << 40, room / 2}} {
		if got := fitRing(test.size, dir, slog.New(slog.DiscardHandler)); got != test.want {
			t.Errorf("fitRing(%d) = %d, want %d of %d", test.size, got, test.want, room)
		}
	}
}
