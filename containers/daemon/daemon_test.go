package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// TestPlugins keeps the list of what is linked: each costs memory and time at every start.
func TestPlugins(t *testing.T) {
	var got []string
	for _, r := range registry.Graph(func(*plugin.Registration) bool { return false }) {
		if r.URI() != collectorPlugin().URI() { // registered by load, if a test before us ran it
			got = append(got, r.URI())
		}
	}
	slices.Sort(got)
	want := []string{
		"io.containerd.content.v1.content",
		"io.containerd.differ.v1.walking",
		"io.containerd.event.v1.exchange",
		"io.containerd.grpc.v1.containers",
		"io.containerd.grpc.v1.content",
		"io.containerd.grpc.v1.diff",
		"io.containerd.grpc.v1.events",
		"io.containerd.grpc.v1.healthcheck",
		"io.containerd.grpc.v1.images",
		"io.containerd.grpc.v1.introspection",
		"io.containerd.grpc.v1.leases",
		"io.containerd.grpc.v1.namespaces",
		"io.containerd.grpc.v1.snapshots",
		"io.containerd.grpc.v1.tasks",
		"io.containerd.grpc.v1.version",
		"io.containerd.lease.v1.manager",
		"io.containerd.metadata.v1.bolt",
		"io.containerd.runtime.v2.task",
		"io.containerd.service.v1.containers-service",
		"io.containerd.service.v1.content-service",
		"io.containerd.service.v1.diff-service",
		"io.containerd.service.v1.images-service",
		"io.containerd.service.v1.introspection-service",
		"io.containerd.service.v1.namespaces-service",
		"io.containerd.service.v1.snapshots-service",
		"io.containerd.service.v1.tasks-service",
		"io.containerd.shim.v1.manager",
		"io.containerd.snapshotter.v1.native",
		"io.containerd.snapshotter.v1.overlayfs",
		"io.containerd.warning.v1.deprecations",
	}
	if !slices.Equal(got, want) {
		t.Errorf("linked plugins:\n%q\nwant\n%q", got, want)
	}
}

func TestRunRefusesWhatItCannotUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Config{Root: filepath.Join(file, "root"), State: t.TempDir(), Socket: "/nowhere",
		Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Error("a root below a file was accepted")
	}
}

// store counts collections.
type store struct {
	mu      sync.Mutex // guards times
	times   []time.Duration
	begun   time.Time
	mutated func(bool)
	err     error
}

type stats struct{}

func (stats) Elapsed() time.Duration { return 0 }

func (s *store) RegisterMutationCallback(f func(bool)) { s.mutated = f }

func (s *store) GarbageCollect(context.Context) (gc.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Since(s.begun))
	return stats{}, s.err
}

func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &store{begun: time.Now()}
		c := startCollector(ctx, s)
		for range 5 { // writes alone are no reason
			s.mutated(false)
			time.Sleep(time.Second)
		}
		for range 10 { // a burst is one collection
			s.mutated(true)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		if _, err := c.ScheduleAndWait(ctx); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want := []time.Duration{6 * time.Second, time.Hour + 5500*time.Millisecond}
		if !slices.Equal(s.times, want) {
			t.Errorf("collected at %v, want %v", s.times, want)
		}
		s.err = errors.New("boom")
		if _, err := c.ScheduleAndWait(ctx); err == nil {
			t.Error("the error is lost")
		}
		cancel()
		synctest.Wait()
		if _, err := c.ScheduleAndWait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}
