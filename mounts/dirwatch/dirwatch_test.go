package dirwatch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

const mask = unix.IN_CREATE | unix.IN_MOVED_TO

func open(t *testing.T, dir string, log *slog.Logger) *Watch {
	t.Helper()
	w, err := Open(dir, mask, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWakes(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, slog.New(slog.DiscardHandler))
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(t.Context(), time.Hour); err != nil {
		t.Error(err)
	}
	if err := w.Wait(t.Context(), time.Millisecond); err != nil { // nothing happens
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if err := w.Wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWaitsWithoutLimit: with no limit a watch returns because of a change or of its context, with and without inotify.
// A daemon whose watch returned at once would look without end.
func TestWaitsWithoutLimit(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := w.Wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing has changed, and Wait = %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Wait(t.Context(), 0); err != nil {
		t.Error(err)
	}
	polling := &Watch{dir: dir, mask: mask, log: slog.New(slog.DiscardHandler)}
	if err := polling.Wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without inotify, Wait = %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), file} {
		if w, err := Open(path, mask, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is watched", path)
			w.Close()
		}
	}
}

// TestWithoutInotify: a user who has no instance left, and one who has no watch left, still hear of changes, are told
// so once, and have inotify as soon as it is there again.
func TestWithoutInotify(t *testing.T) {
	for _, count := range []string{"max_inotify_instances", "max_inotify_watches"} {
		t.Run(count, func(t *testing.T) {
			limit := testenv.UserLimit(t, count)
			if limit == nil {
				return
			}
			limit(0)
			dir := t.TempDir()
			log := new(strings.Builder)
			w := open(t, dir, slog.New(slog.NewTextHandler(log, nil)))
			if !w.Polling() || !strings.Contains(log.String(), "inotify is used up") {
				t.Fatalf("polling %v, log: %s", w.Polling(), log)
			}
			for range 2 {
				if err := w.Wait(t.Context(), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			if err := w.Wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			limit(10)
			if err := w.Wait(t.Context(), time.Hour); err != nil || w.Polling() {
				t.Errorf("with inotify again: %v, polling %v", err, w.Polling())
			}
			if got := strings.Count(log.String(), "\n"); got != 2 ||
				!strings.Contains(log.String(), "available again") {
				t.Errorf("log: %s", log)
			}
			if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := w.Wait(t.Context(), time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
}
