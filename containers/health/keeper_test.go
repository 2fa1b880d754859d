package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is containers that do not exist, and a clock.
type world struct {
	mu    sync.Mutex // guards what follows
	begun time.Time
	exit  map[string]int
	takes time.Duration // each check
	runs  int           // checks at the moment
	said  []string
}

func newWorld() *world { return &world{begun: time.Now(), exit: map[string]int{}} }

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf("%v ", time.Since(w.begun))+fmt.Sprintf(format, args...))
}

func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(w.said, "\n")
	w.said = nil
	return text
}

func (w *world) keeper(dir string) *Keeper {
	return &Keeper{
		Dir: dir, Log: slog.New(slog.DiscardHandler),
		Now:   func() time.Duration { return time.Hour + time.Since(w.begun) },
		Clear: func(string) {},
		Started: func(pid int) (time.Duration, error) {
			if pid == 0 {
				return 0, errors.New("no process")
			}
			return time.Hour + time.Duration(pid)*time.Second, nil
		},
		Event: func(id string, s Status) { w.say("%s is %s", id, s) },
		Begin: func(s Subject) func(context.Context) Result {
			return func(ctx context.Context) Result { return w.check(ctx, s) }
		},
	}
}

func (w *world) check(ctx context.Context, s Subject) Result {
	w.mu.Lock()
	exit, takes := w.exit[s.ID], w.takes
	w.runs++
	w.mu.Unlock()
	w.say("check %s of %d", s.ID, s.PID)
	start := time.Hour + time.Since(w.begun)
	select {
	case <-ctx.Done():
		time.Sleep(time.Second) // sleep: of synctest, the kernel takes a moment to end it
	case <-time.After(takes):
	}
	w.mu.Lock()
	w.runs--
	w.mu.Unlock()
	return Result{Start: start, End: time.Hour + time.Since(w.begun), Exit: exit}
}

var every10 = Check{Args: []string{"x"}, Interval: 10 * time.Second, Timeout: time.Minute, Retries: 2}

func expect(t *testing.T, what, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", what, got, w)
	}
}

func sleep(d time.Duration) {
	time.Sleep(d) // sleep: of synctest
	synctest.Wait()
}

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		k := w.keeper(t.TempDir())
		a := Subject{"a.web", 0, every10, false}
		k.Want([]Subject{a})
		if _, known := k.State("a.web"); known {
			t.Error("a container whose program has ended is checked")
		}
		a.PID = 1
		k.Want([]Subject{a, {"b.web", 1, every10, false}})
		if s, _ := k.State("a.web"); s.Status != Starting {
			t.Errorf("at first: %+v", s)
		}
		w.exit["b.web"] = 1
		sleep(11 * time.Second)
		k.Want([]Subject{a}) // as it is: it goes on
		sleep(time.Second)
		got := w.take()
		if strings.Count(got, "check") != 2 || !strings.Contains(got, "11s a.web is healthy") {
			t.Error(got)
		}
		select {
		case <-k.Changed():
		default:
			t.Error("nobody is told of a changed status")
		}
		w.exit["a.web"] = 3
		sleep(20 * time.Second)
		expect(t, "it fails", w.take(), "21s check a.web of 1", "31s check a.web of 1", "31s a.web is unhealthy")
		w.exit["a.web"] = 0
		sleep(10 * time.Second)
		expect(t, "it is well again", w.take(), "41s check a.web of 1", "41s a.web is healthy")
		k.Want(nil)
		sleep(time.Hour)
		expect(t, "it ended", w.take())
		if files, err := os.ReadDir(k.Dir); err != nil || len(files) != 0 {
			t.Errorf("left behind: %v, %v", files, err)
		}
		k.Close()
	})
}

// TestKeeperOneAtATime: a check that takes long is not joined by another one, be it of a new life of the container, and
// one that is ended with its container counts as nothing.
func TestKeeperOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.takes = 45 * time.Second
		k := w.keeper(t.TempDir())
		k.Want([]Subject{{"a.web", 1, every10, false}})
		sleep(60 * time.Second)
		expect(t, "slow checks", w.take(), "11s check a.web of 1", "56s a.web is healthy")
		sleep(10 * time.Second)
		expect(t, "the second", w.take(), "1m6s check a.web of 1")
		w.exit["a.web"] = 1
		w.takes = 0
		k.Want([]Subject{{"a.web", 60, every10, false}}) // it was started at 1m0s
		if w.runs != 1 {
			t.Fatalf("%d checks run", w.runs)
		}
		sleep(10 * time.Second)
		expect(t, "the new life", w.take(), "1m11s check a.web of 60")
		if s, _ := k.State("a.web"); s.Status != Starting || len(s.Log) != 1 || s.Streak != 1 {
			t.Errorf("the new life has a state of the old one: %+v", s)
		}
		w.takes = 45 * time.Second
		sleep(10 * time.Second)
		expect(t, "a slow check", w.take(), "1m21s check a.web of 60")
		k.Want(nil) // the manager sees it without a program for a moment
		quick := every10
		quick.Interval = time.Millisecond
		k.Want([]Subject{{"a.web", 81, quick, false}})
		synctest.Wait()
		if w.runs != 1 {
			t.Errorf("%d checks run", w.runs)
		}
		sleep(2 * time.Second)
		expect(t, "after the last check of the old life has ended", w.take(), "1m31s check a.web of 81")
		k.Close()
		if w.runs != 0 {
			t.Error("a check runs after Close")
		}
		if len(k.running) != 0 {
			t.Errorf("kept: %v", k.running)
		}
	})
}

// TestKeeperComesBack: a new manager goes on where the last one was, with the same life of a container only, and
// garbage counts as nothing.
func TestKeeperComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newWorld(), t.TempDir()
		k := w.keeper(dir)
		list := []Subject{{"a.web", 1, every10, false}, {"b.web", 1, every10, false}, {"c.web", 1, every10, false}}
		k.Want(list)
		sleep(12 * time.Second)
		k.Close()
		w.take()
		list[1].PID = 2
		garbage := []byte(`{"life":"1 3601000000000"`)
		if err := os.WriteFile(filepath.Join(dir, "c.web.json"), garbage, 0o600); err != nil {
			t.Fatal(err)
		}
		w.takes = time.Second // no check that begins now ends before the bubble rests
		k = w.keeper(dir)
		k.Want(list)
		for id, want := range map[string]Status{"a.web": Healthy, "b.web": Starting, "c.web": Starting} {
			if s, _ := k.State(id); s.Status != want {
				t.Errorf("%s is %s, want %s", id, s.Status, want)
			}
		}
		// until 20.5s: a.web is due at 21s, those that begin again were at 12s
		sleep(8500 * time.Millisecond)
		if got := w.take(); strings.Contains(got, "a.web") || !strings.Contains(got, "12s check b.web of 2") {
			t.Error(got)
		}
		sleep(time.Second)
		if got := w.take(); !strings.Contains(got, "21s check a.web of 1") {
			t.Error(got)
		}
		k.Close()
	})
}

// TestKeeperFrozen: a frozen container is not checked and keeps its status, and goes on with it.
func TestKeeperFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		k := w.keeper(t.TempDir())
		k.Want([]Subject{{"a.web", 1, every10, false}})
		sleep(12 * time.Second)
		w.exit["a.web"] = 1
		w.take()
		k.Want([]Subject{{"a.web", 1, every10, true}})
		sleep(time.Hour)
		expect(t, "it is frozen", w.take())
		if s, _ := k.State("a.web"); s.Status != Healthy || len(s.Log) != 1 {
			t.Errorf("frozen: %+v", s)
		}
		k.Want([]Subject{{"a.web", 1, every10, false}})
		if s, _ := k.State("a.web"); s.Status != Healthy {
			t.Errorf("it goes on: %+v", s)
		}
		sleep(11 * time.Second)
		if s, _ := k.State("a.web"); s.Status != Unhealthy {
			t.Errorf("it is checked again: %+v", s)
		}
		k.Close()
	})
}
