package appfiles

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/mounts/testenv"
)

// watching runs a watch on dir.
func watching(t *testing.T, dir string, open func() (dirwatch.Inotify, error)) (asked chan struct{}, log *testenv.Log) {
	t.Helper()
	asked, log = make(chan struct{}, 1), new(testenv.Log)
	ready, done := make(chan struct{}), make(chan struct{})
	w := appsWatch{dir: dir, asked: asked, log: slog.New(slog.NewTextHandler(log, nil)), quiet: 20 * time.Millisecond,
		every: 20 * time.Millisecond, open: open}
	go func() {
		defer close(done)
		w.run(t.Context(), ready)
	}()
	t.Cleanup(func() { <-done }) // t.Context is done before
	<-ready
	return asked, log
}

// await waits for requests until the apps are as wanted: there may be one for each part of a change.
func await(t *testing.T, asked <-chan struct{}, what string, done func() bool) {
	t.Helper()
	limit := time.After(testenv.Patience())
	for {
		select {
		case <-asked:
			if done() {
				return
			}
		case <-limit:
			t.Fatalf("the apps are not read again after: %s", what)
		}
	}
}

// TestWatchApps: whatever changes, the last reading after it sees it.
func TestWatchApps(t *testing.T) {
	for name, open := range map[string]func() (dirwatch.Inotify, error){
		"told by the kernel": dirwatch.NewInotify,
		"looking":            func() (dirwatch.Inotify, error) { return -1, unix.EMFILE },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "apps")
			asked, log := watching(t, dir, open)
			at := func(name string) string { return filepath.Join(dir, name) }
			sees := func(what, want string, change ...error) {
				t.Helper()
				if err := errors.Join(change...); err != nil {
					t.Fatal(err)
				}
				await(t, asked, what, func() bool {
					got, _ := read(t, dir, Apps{})
					return strings.Join(append(ids(got), got.Alone...), " ") == want
				})
			}
			write := func(name, text string) error { return os.WriteFile(at(name), []byte(text), 0o644) }
			sees("a directory of apps with an app", "a.web", os.MkdirAll(at("a"), 0o755), write("a/compose.yaml",
				compose("there", "always")))
			sees("a change", "a.other", write("a/compose.yaml", strings.Replace(compose("there", "always"), "web",
				"other", 1)))
			sees("another app", "a.other b.web", os.Mkdir(at("b"), 0o755), write("b/docker-compose.yml",
				compose("there", "always")))
			sees("a replaced file", "a.new b.web", write("a/aside", strings.Replace(compose("there", "always"), "web",
				"new", 1)), os.Rename(at("a/aside"), at("a/compose.yaml")))
			sees("a removed app", "a.new", os.RemoveAll(at("b")))
			sees("an app moved away", "", os.Rename(at("a"), filepath.Join(top, "away")))
			sees("and back", "a.new", os.Rename(filepath.Join(top, "away"), at("a")))
			sees("all apps moved away", "", os.Rename(dir, filepath.Join(top, "away")))
			sees("and back", "a.new", os.Rename(filepath.Join(top, "away"), dir))

			if err := os.Mkdir(at("a/images"), 0o755); err != nil {
				t.Fatal(err)
			}
			image := tarWith(t, map[string]string{"index.json": strings.Replace(goodIndex, "busybox", "there", 1)})
			writer, err := os.Create(at("a/images/x.tar"))
			if err == nil {
				_, err = writer.Write(image[:600])
			}
			sees("half an image", "a", err)
			_, err = writer.Write(image[600:])
			sees("a whole image", "a.new", err, writer.Close())
			if got, _ := read(t, dir, Apps{}); got.Wanted[0].Preload == nil {
				t.Error("the image is not seen")
			}
			if polls := strings.Contains(log.String(), "not watched"); polls != (name == "looking") {
				t.Errorf("the log says\n%s", log)
			}
		})
	}
}

// TestWatchAppsComesBack: when the kernel tells again, that is said, and what was missed is read.
func TestWatchAppsComesBack(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	dir := t.TempDir()
	asked, log := watching(t, dir, func() (dirwatch.Inotify, error) {
		if refuse.Load() {
			return -1, unix.EMFILE
		}
		return dirwatch.NewInotify()
	})
	refuse.Store(false)
	await(t, asked, "the kernel tells again", func() bool { return strings.Contains(log.String(), "watched again") })
	if n := strings.Count(log.String(), "not watched"); n != 1 {
		t.Errorf("%d times the log says that apps are not watched:\n%s", n, log)
	}
}
