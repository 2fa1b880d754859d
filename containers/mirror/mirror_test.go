package mirror

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"resinos/mounts/testenv"
)

func TestFile(t *testing.T) { mirrorAFile(t) }

// TestWithoutInotify: with a container that has taken all instances, containers still get a new resolv.conf.
func TestWithoutInotify(t *testing.T) {
	if limit := testenv.UserLimit(t, "max_inotify_instances"); limit != nil {
		limit(0)
		mirrorAFile(t)
	}
}

func mirrorAFile(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a", "resolv.conf"), filepath.Join(dir, "b", "resolv.conf")
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- File(ctx, from, to, ready, slog.New(slog.DiscardHandler)) }()
	<-ready
	bound, err := os.Open(to) // what a container has
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	for _, text := range []string{"nameserver 192.0.2.1\n", "x\n"} {
		if err := os.WriteFile(from+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from+".new", from); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		testenv.WaitFor(t, text+" in the bound file", func() bool {
			n, _ := bound.ReadAt(buf, 0) // io.EOF at every read, the text is shorter
			return string(buf[:n]) == text
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
