package workload

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"resinos/services/notify"
	"resinos/services/notify/notifytest"
)

// absent is an engine that never answers.
type absent struct{ Engine }

func (absent) Connect(ctx context.Context) (<-chan struct{}, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestAliveWithoutEngine: a manager that waits for the engine is not hung.
func TestAliveWithoutEngine(t *testing.T) {
	signs := notifytest.Watch(t, 30*time.Millisecond)
	m := &Manager{c: Config{Engine: absent{}, Pulls: newFakePulls(nil), Alive: notify.Watched(),
		Log: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() {
		_, err := m.connect(ctx)
		over <- err
	}()
	for range 3 {
		<-signs
	}
	cancel()
	if err := <-over; err == nil {
		t.Error("connected to an engine that is not there")
	}
}
