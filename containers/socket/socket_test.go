package socket_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"resinos/containers/socket"
	"resinos/mounts/testenv"
)

// TestWithoutInotify: with a container that has taken all instances, the manager still finds the engine.
func TestWithoutInotify(t *testing.T) {
	if limit := testenv.UserLimit(t, "max_inotify_instances"); limit != nil {
		limit(0)
		awaitASocket(t)
	}
}

func TestAwaitSocket(t *testing.T) { awaitASocket(t) }

func awaitASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s")
	got := make(chan error, 1)
	go func() { got <- socket.Await(t.Context(), path, slog.New(slog.DiscardHandler)) }()
	time.Sleep(20 * time.Millisecond) // sleep: so that it waits; if it does not yet, the test is weaker but not wrong
	l, err := net.Listen("unix", path)
	for errors.Is(err, os.ErrNotExist) {
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := socket.Await(ctx, path+"-never", slog.New(slog.DiscardHandler)); !errors.Is(err,
		context.DeadlineExceeded) {
		t.Errorf("without a server: %v", err)
	}
}
