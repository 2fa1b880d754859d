package demand

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/mounts/testenv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// TestChange: what is done to a path, or to the way to it, and whether that is a change of it.
func TestChange(t *testing.T) {
	mkdirs := func(t *testing.T, path string) { must(t, os.MkdirAll(path, 0o755)) }
	for name, c := range map[string]struct {
		path   string // below the test's directory
		before func(t *testing.T, dir string)
		do     func(t *testing.T, dir string)
		silent bool
	}{
		"write": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { write(t, d+"/f", "2") }, false},
		"truncate": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { write(t, d+"/f", "") }, false},
		"rename over": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { write(t, d+"/n", "2"); must(t, os.Rename(d+"/n", d+"/f")) }, false},
		"remove": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { must(t, os.Remove(d+"/f")) }, false},
		"chmod": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { must(t, os.Chmod(d+"/f", 0o600)) }, false},
		"appears": {"f", func(*testing.T, string) {}, func(t *testing.T, d string) { write(t, d+"/f", "1") },
			false},
		"appears deep": {"a/b/c/f", func(*testing.T, string) {},
			func(t *testing.T, d string) { mkdirs(t, d+"/a/b/c"); write(t, d+"/a/b/c/f", "1") }, false},
		"appears by move": {"a/f", func(t *testing.T, d string) { mkdirs(t, d+"/n"); write(t, d+"/n/f", "") },
			func(t *testing.T, d string) { must(t, os.Rename(d+"/n", d+"/a")) }, false},
		"way moves off": {"a/b/f", func(t *testing.T, d string) { mkdirs(t, d+"/a/b"); write(t, d+"/a/b/f", "") },
			func(t *testing.T, d string) { must(t, os.Rename(d+"/a", d+"/n")) }, false},
		"way swapped": {"a/f", func(t *testing.T, d string) {
			mkdirs(t, d+"/a")
			mkdirs(t, d+"/n")
			write(t, d+"/a/f", "1")
			write(t, d+"/n/f", "2")
		}, func(t *testing.T, d string) {
			must(t, unix.Renameat2(unix.AT_FDCWD, d+"/a", unix.AT_FDCWD, d+"/n", unix.RENAME_EXCHANGE))
		}, false},
		"tree removed": {"a/f", func(t *testing.T, d string) { mkdirs(t, d+"/a"); write(t, d+"/a/f", "1") },
			func(t *testing.T, d string) { must(t, os.RemoveAll(d+"/a")) }, false},
		"link's file": {"l", func(t *testing.T, d string) {
			mkdirs(t, d+"/a")
			write(t, d+"/a/f", "1")
			must(t, os.Symlink("a/f", d+"/l"))
		}, func(t *testing.T, d string) { write(t, d+"/a/f", "2") }, false},
		"link's file over": {"l", func(t *testing.T, d string) {
			mkdirs(t, d+"/a")
			write(t, d+"/a/f", "1")
			must(t, os.Symlink("a/f", d+"/l"))
		}, func(t *testing.T, d string) { write(t, d+"/n", "2"); must(t, os.Rename(d+"/n", d+"/a/f")) }, false},
		"directory link swapped": {"d/f", func(t *testing.T, d string) {
			mkdirs(t, d+"/1")
			mkdirs(t, d+"/2")
			write(t, d+"/1/f", "1")
			write(t, d+"/2/f", "2")
			must(t, os.Symlink("1", d+"/d"))
		}, func(t *testing.T, d string) {
			must(t, os.Symlink("2", d+"/n"))
			must(t, os.Rename(d+"/n", d+"/d"))
		}, false},
		"dangling link": {"l", func(t *testing.T, d string) { must(t, os.Symlink(d+"/a/f", d+"/l")) },
			func(t *testing.T, d string) { mkdirs(t, d+"/a"); write(t, d+"/a/f", "2") }, false},
		"loop mended": {"l", func(t *testing.T, d string) {
			must(t, os.Symlink("m", d+"/l"))
			must(t, os.Symlink("l",
				d+"/m"))
		}, func(t *testing.T, d string) { must(t, os.Remove(d+"/m")); write(t, d+"/m", "") }, false},
		"becomes a loop": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { must(t, os.Symlink("f", d+"/n")); must(t, os.Rename(d+"/n", d+"/f")) },
			false},
		"into a directory": {"a", func(t *testing.T, d string) { mkdirs(t, d+"/a") },
			func(t *testing.T, d string) { write(t, d+"/a/f", "1") }, false},
		"directory's file": {"a", func(t *testing.T, d string) { mkdirs(t, d+"/a"); write(t, d+"/a/f", "") },
			func(t *testing.T, d string) { write(t, d+"/a/f", "1") }, false},
		"out of directory": {"a", func(t *testing.T, d string) { mkdirs(t, d+"/a"); write(t, d+"/a/f", "") },
			func(t *testing.T, d string) { must(t, os.Remove(d+"/a/f")) }, false},
		"there and gone": {"f", func(*testing.T, string) {},
			func(t *testing.T, d string) { write(t, d+"/f", "1"); must(t, os.Remove(d+"/f")) }, false},
		"up and down": {"a/../f", func(t *testing.T, d string) { mkdirs(t, d+"/a") },
			func(t *testing.T, d string) { write(t, d+"/f", "") }, false},
		"way is a file": {"f/x", func(t *testing.T, d string) { write(t, d+"/f", "") },
			func(t *testing.T, d string) { must(t, os.Remove(d+"/f")); mkdirs(t, d+"/f/x") }, false},

		"neighbour": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { write(t, d+"/g", "2"); must(t, os.Remove(d+"/g")) }, true},
		"only read": {"f", func(t *testing.T, d string) { write(t, d+"/f", "1") },
			func(t *testing.T, d string) { _, err := os.ReadFile(d + "/f"); must(t, err) }, true},
		"way appears": {"a/b/f", func(*testing.T, string) {}, func(t *testing.T, d string) { mkdirs(t, d+"/a/b") },
			true},
		"link, same file": {"l", func(t *testing.T, d string) {
			write(t, d+"/f", "1")
			must(t,
				os.Symlink("f", d+"/l"))
		}, func(t *testing.T, d string) { must(t, os.Symlink("./f", d+"/n")); must(t, os.Rename(d+"/n", d+"/l")) },
			true},
		"way there and off": {"a/f", func(*testing.T, string) {},
			func(t *testing.T, d string) { mkdirs(t, d+"/a"); must(t, os.Remove(d+"/a")) }, true},
		"directory is listed": {"a", func(t *testing.T, d string) { mkdirs(t, d+"/a") },
			func(t *testing.T, d string) { _, err := os.ReadDir(d + "/a"); must(t, err) }, true},
		"below the directory": {"a", func(t *testing.T, d string) { mkdirs(t, d+"/a/b") },
			func(t *testing.T, d string) { write(t, d+"/a/b/f", "") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.before(t, dir)
			clockTicks(t)
			w := runs(t)
			arm(t, w, 3, nil, dir+"/"+c.path)
			settled(t, w)
			c.do(t, dir)
			if !c.silent {
				wantFire(t, w, Fire{ID: 3, What: "change of " + dir + "/" + c.path})
				write(t, dir+"/later", "")
				write(t, dir+"/f~", "")
			}
			wantSilence(t, w)
		})
	}
}

// clockTicks waits until the clock of the file systems has passed this moment: what was written before is older than
// what comes. Since Linux 6.13 a file may have been stamped by a finer clock, which is ahead of it.
func clockTicks(t testing.TB) {
	t.Helper()
	now := unix.NsecToTimespec(time.Now().UnixNano())
	testenv.WaitFor(t, "the clock of the file systems moves", func() bool { return before(now, fileClock()) })
}

// runs is watching without the count of descriptors, for tests that run side by side.
func runs(t *testing.T) *Watcher {
	t.Helper()
	w, err := New(slog.New(slog.DiscardHandler))
	must(t, err)
	over := make(chan error, 1)
	ctx := t.Context()
	go func() { over <- w.Run(ctx) }()
	t.Cleanup(func() { <-over })
	return w
}

// settled returns once all that was armed is watched: what is asked for later has happened. Meanwhile nothing fires
// but, perhaps, the ids that are named.
func settled(t testing.TB, w *Watcher, perhaps ...int) {
	t.Helper()
	files := opened(t, listenOn("udp", "127.0.0.1:0"))
	poke(t, files[0])
	arm(t, w, 1<<20, files)
	want := Fire{ID: 1 << 20, What: "traffic on udp:127.0.0.1:0"}
	for {
		got := testenv.Receive(t, "the last that was armed", w.Fired())
		if got == want {
			return
		}
		if !slices.Contains(perhaps, got.ID) {
			t.Fatalf("fired %+v, want %+v", got, want)
		}
	}
}

// TestChangeRightAfterArm: what happens between Arm and the moment Run comes to it is seen too.
func TestChangeRightAfterArm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	w, err := New(slog.New(slog.DiscardHandler))
	must(t, err)
	arm(t, w, 1, nil, path)
	clockTicks(t)
	write(t, path, "1")
	clockTicks(t)
	over := make(chan error, 1)
	ctx := t.Context()
	go func() { over <- w.Run(ctx) }()
	t.Cleanup(func() { <-over })
	wantFire(t, w, Fire{ID: 1, What: "change of " + path})
	arm(t, w, 1, nil, path) // changed before: not again
	wantSilence(t, w)
}

// TestWithoutInotify: while a container has taken all instances, or all watches, a change starts a service all the
// same; it is said once, and inotify is used as soon as it is there again.
func TestWithoutInotify(t *testing.T) {
	for _, count := range []string{"max_inotify_instances", "max_inotify_watches"} {
		t.Run(count, func(t *testing.T) {
			limit := testenv.UserLimit(t, count)
			if limit == nil {
				return
			}
			limit(0)
			path, said := filepath.Join(t.TempDir(), "f"), make(chan string, 10)
			w, err := New(slog.New(slog.NewTextHandler(toChannel(said), nil)))
			must(t, err)
			over := make(chan error, 1)
			ctx := t.Context()
			go func() { over <- w.Run(ctx) }()
			t.Cleanup(func() { <-over })
			for range 2 {
				arm(t, w, 1, nil, path)
				settled(t, w)
				write(t, path, "1")
				wantFire(t, w, Fire{ID: 1, What: "change of " + path})
			}
			if line := <-said; !strings.Contains(line, "inotify is used up") {
				t.Errorf("said %q", line)
			}
			arm(t, w, 1, nil, path)
			limit(100)
			if line := <-said; !strings.Contains(line, "available again") {
				t.Errorf("then %q", line)
			}
			write(t, path, "2")
			wantFire(t, w, Fire{ID: 1, What: "change of " + path})
		})
	}
}

type toChannel chan string

func (c toChannel) Write(p []byte) (int, error) { c <- string(p); return len(p), nil }

// TestWrongClock: a file from the future is no change.
func TestWrongClock(t *testing.T) {
	at := func(sec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: 5} }
	for name, c := range map[string]struct {
		s          stamp
		since, now int64
		want       bool
	}{
		"missing": {stamp{}, 0, 9, false}, "before": {stamp{ino: 1, ctime: at(3)}, 4, 9, false},
		"same moment": {stamp{ino: 1, ctime: at(4)}, 4, 9, true},
		"since":       {stamp{ino: 1, ctime: at(5)}, 4, 9, true}, "now": {stamp{ino: 1, ctime: at(9)}, 4, 9, true},
		"future": {stamp{ino: 1, ctime: at(10)}, 4, 9, false},
	} {
		if got := c.s.changedSince(at(c.since), at(c.now)); got != c.want {
			t.Errorf("%s: changedSince = %v", name, got)
		}
	}
}

// TestRenamedOverInALoop: a file that never comes to rest fires all the same, and once. TestQuiet holds when.
func TestRenamedOverInALoop(t *testing.T) {
	dir, w := t.TempDir(), watching(t)
	path := filepath.Join(dir, "f")
	write(t, path, "")
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				os.WriteFile(path+".new", fmt.Append(nil, i), 0o600)
				os.Rename(path+".new", path)
			}
		}
	}()
	defer func() { close(stop); <-over }()
	for range 3 {
		arm(t, w, 1, nil, path)
		wantFire(t, w, Fire{ID: 1, What: "change of " + path})
	}
	wantSilence(t, w)
}

// TestLinksInALoop: what replaces the path by loops of links, and back, does no harm.
func TestLinksInALoop(t *testing.T) {
	dir, w := t.TempDir(), watching(t)
	path := filepath.Join(dir, "f")
	for i := range 200 {
		must(t, os.Symlink([]string{"f", "g/..", "../" + filepath.Base(dir) + "/f", path}[i%4], path+".new"))
		must(t, os.Rename(path+".new", path))
		if i%20 == 0 {
			arm(t, w, 1, nil, path, path+"/x/y", filepath.Join(dir, "g", "f"))
		}
	}
	w.Disarm(1)
	settled(t, w, 1)
	arm(t, w, 1, nil, path)
	settled(t, w)
	must(t, os.Remove(path))
	write(t, path, "sane again")
	wantFire(t, w, Fire{ID: 1, What: "change of " + path})
}

// TestManyWatches: a thousand paths in few places, then all of them change at once; each fires
// once. Afterwards the kernel holds no watch.
func TestManyWatches(t *testing.T) {
	dir, w := t.TempDir(), watching(t)
	const n = 1000
	for id := range n {
		arm(t, w, id, nil, filepath.Join(dir, fmt.Sprint(id%10), fmt.Sprint(id)))
	}
	settled(t, w)
	for id := range n {
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(id%10)), 0o755))
		write(t, filepath.Join(dir, fmt.Sprint(id%10), fmt.Sprint(id)), "")
	}
	fired := map[int]bool{}
	for range n {
		f := testenv.Receive(t, fmt.Sprintf("a fire after %d", len(fired)), w.Fired())
		if fired[f.ID] {
			t.Fatalf("%d fires twice", f.ID)
		}
		fired[f.ID] = true
	}
	wantSilence(t, w)
	if got := kernelWatches(t, w); got != 0 {
		t.Errorf("%d watches are left in the kernel", got)
	}
}

func kernelWatches(t *testing.T, w *Watcher) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", w.paths.inotify))
	must(t, err)
	return strings.Count(string(data), "inotify wd:")
}

// TestTwoPathsOneFire: a service whose paths change together is started once.
func TestTwoPathsOneFire(t *testing.T) {
	dir, w := t.TempDir(), watching(t)
	arm(t, w, 1, nil, dir+"/a", dir+"/b")
	settled(t, w)
	write(t, dir+"/a", "")
	write(t, dir+"/b", "")
	testenv.Receive(t, "a fire", w.Fired())
	wantSilence(t, w)
}

// TestOverflow: when the kernel has lost events every path counts as changed.
func TestOverflow(t *testing.T) {
	p := newPaths(dirwatch.NewInotify, slog.New(slog.DiscardHandler))
	defer p.close()
	now := time.Now()
	p.add(1, "/", fileClock())
	p.add(2, "/nowhere", fileClock())
	if fires := p.settle(now.Add(time.Hour)); fires != nil || !p.next().IsZero() {
		t.Errorf("before: %v, next %v", fires, p.next())
	}
	p.event(dirwatch.Event{Watch: -1, Mask: unix.IN_Q_OVERFLOW}, now)
	if next := p.next(); !next.Equal(now.Add(quietFor)) {
		t.Errorf("next in %v", next.Sub(now))
	}
	if fires := p.settle(now); fires != nil {
		t.Errorf("too early: %v", fires)
	}
	if fires := p.settle(now.Add(quietFor)); len(fires) != 2 {
		t.Errorf("fires %v", fires)
	}
}

func TestQuiet(t *testing.T) {
	start := time.Unix(100, 0)
	for name, c := range map[string]struct {
		notes []time.Duration
		want  time.Duration
	}{
		"one":     {[]time.Duration{0}, 50 * time.Millisecond},
		"burst":   {[]time.Duration{0, 20 * time.Millisecond, 40 * time.Millisecond}, 90 * time.Millisecond},
		"no rest": {[]time.Duration{0, 200 * time.Millisecond, 490 * time.Millisecond}, 500 * time.Millisecond},
	} {
		var q quiet
		for _, d := range c.notes {
			q.note(start.Add(d))
		}
		if got := q.due().Sub(start); got != c.want {
			t.Errorf("%s: due after %v, want %v", name, got, c.want)
		}
	}
}

// world is a file system for trail: directories are "/", links their target, others "".
type world map[string]string

func (w world) look(path string) (kind, string) {
	switch to, ok := w[path]; {
	case !ok:
		return missing, ""
	case to == "/":
		return directory, ""
	case to == "":
		return other, ""
	default:
		return link, strings.TrimPrefix(to, "-> ")
	}
}

func TestTrail(t *testing.T) {
	w := world{"/etc": "/", "/etc/app": "/", "/etc/data": "/", "/etc/data/conf": "", "/etc/app/conf": "-> ../data/conf",
		"/l": "-> m", "/m": "-> l", "/abs": "-> /etc/./app/"}
	for path, want := range map[string]string{
		// The drawing above hop.
		"/etc/app/conf": "passing /etc, passing /etc/app, entry /etc/app conf, passing /etc/data, entry " +
			"/etc/data conf last, self /etc/data/conf last",
		"/":                 "self / last",
		"/etc/":             "entry / etc last, self /etc last",
		"/etc/..":           "passing /etc, self / last",
		"/etc/x/y":          "passing /etc, entry /etc x",
		"/etc/x":            "passing /etc, entry /etc x last",
		"/etc/data/conf/x":  "passing /etc, passing /etc/data, entry /etc/data conf",
		"/abs":              "entry / abs, passing /etc, entry /etc app last, self /etc/app last",
		"/../../etc/./data": "passing /etc, entry /etc data last, self /etc/data last",
	} {
		if got := text(trail(path, w.look)); got != want {
			t.Errorf("trail(%q) =\n%s, want\n%s", path, got, want)
		}
	}
	if got := trail("/l/x", w.look); len(got) != maxLinks+1 {
		t.Errorf("a loop gives %d hops", len(got))
	}
	w["/long"] = "-> " + strings.Repeat("etc/../", 500) + "etc"
	if got := trail("/long", w.look); len(got) != maxHops {
		t.Errorf("an endless link gives %d hops", len(got))
	}
}

func text(hops []hop) string {
	var parts []string
	for _, h := range hops {
		s := map[role]string{passing: "passing ", entry: "entry ", self: "self "}[h.role] + h.at
		if h.name != "" {
			s += " " + h.name
		}
		if h.last {
			s += " last"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func FuzzTrail(f *testing.F) {
	f.Add("/a/b/../c", "a/b")
	f.Add("//l/./l/..", "/l/l")
	f.Add("/l", "../l/x")
	f.Fuzz(func(t *testing.T, path, to string) {
		if len(path) > 200 || len(to) > 200 || to == "" {
			return
		}
		hops := trail("/"+path, func(p string) (kind, string) {
			switch len(p) % 4 {
			case 0:
				return link, to
			case 1:
				return missing, ""
			case 2:
				return other, ""
			}
			return directory, ""
		})
		if len(hops) == 0 || len(hops) > maxHops+1 {
			t.Fatalf("trail(%q) has %d hops", path, len(hops))
		}
		for i, h := range hops {
			if !filepath.IsAbs(h.at) || h.at != filepath.Clean(h.at) || (h.role == entry) != (h.name != "") {
				t.Errorf("trail(%q): hop %+v", path, h)
			}
			if h.role == self && i != len(hops)-1 {
				t.Errorf("trail(%q) goes on behind %+v", path, h)
			}
		}
	})
}

// TestArmAgainKeepsChange: a service that ends just after its path has changed, and is armed again, hears of the
// change: whether the change is still in the kernel, waits to be quiet, or has fired and not been received.
func TestArmAgainKeepsChange(t *testing.T) {
	seen := func(w *Watcher, before uint64) func() bool { return func() bool { return w.looks.Load() > before } }
	for name, reached := range map[string]func(w *Watcher, before uint64) func() bool{
		"in the kernel":   func(*Watcher, uint64) func() bool { return func() bool { return true } },
		"waits for quiet": seen,
		"offered":         func(w *Watcher, _ uint64) func() bool { return func() bool { return w.head() != nil } },
	} {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, "1")
		w := runs(t)
		arm(t, w, 1, nil, path)
		settled(t, w)
		before := w.looks.Load()
		write(t, path, "2")
		testenv.WaitFor(t, "the change is "+name, reached(w, before))
		arm(t, w, 1, nil, path)
		wantFire(t, w, Fire{ID: 1, What: "change of " + path})
	}
}

// TestSameMoment: a change right after Arm counts, though it has the moment of Arm to the clock of the file system, and
// nobody watches yet.
func TestSameMoment(t *testing.T) {
	w, err := New(slog.New(slog.DiscardHandler))
	must(t, err)
	dir := t.TempDir()
	const many = 20 // the clock may tick in between, but not each time
	for id := range many {
		path := filepath.Join(dir, strconv.Itoa(id))
		must(t, w.Arm(id, nil, []string{path}))
		must(t, os.WriteFile(path, []byte("new"), 0o600))
	}
	over := make(chan error, 1)
	ctx := t.Context()
	go func() { over <- w.Run(ctx) }()
	t.Cleanup(func() { <-over })
	for range many {
		testenv.Receive(t, "a fire for each change", w.Fired())
	}
}

// TestFineTimes: a time that the file system takes from a finer clock than its ticks (Linux 6.13 on, for a file that
// somebody has looked at since its last change) is not from the future.
func TestFineTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for range 1000 {
		since := fileClock()
		must(t, os.WriteFile(path, []byte("new"), 0o600))
		s := stampOf(path) // which makes the next time a fine one
		if !s.changedSince(since, latest()) {
			t.Fatalf("changed at %v, between %v and %v: not seen", s.ctime, since, latest())
		}
	}
}
