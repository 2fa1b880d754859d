package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"resinos/services/notify"
	"resinos/services/notify/notifytest"
)

// TestAliveByAnswers: only a server that answers is alive.
func TestAliveByAnswers(t *testing.T) {
	signs := notifytest.Watch(t, 3*time.Millisecond)
	var hangs atomic.Bool
	asked, never := make(chan struct{}), make(chan struct{})
	v := &vital{pulse: notify.Watched(), log: slog.New(slog.DiscardHandler), list: func(context.Context) error {
		if hangs.Load() {
			asked <- struct{}{}
			<-never // as somebody who waits for a lock, it does not follow its context
		}
		return nil
	}}
	due := func() {
		for v.left() > 0 {
			<-time.After(v.left()) // sleep: until a sign is due
		}
	}
	got := make(chan struct{})
	go func() { <-signs; close(got) }()
	for alive := false; !alive; {
		due()
		v.beat(t.Context())
		select {
		case <-got:
			alive = true
		default:
		}
	}
	hangs.Store(true)
	due()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	v.beat(ctx)
	if !v.silent || v.pulse.Left() > 0 {
		t.Errorf("a server that does not answer is alive: %v left", v.pulse.Left())
	}
	if v.left() == 0 {
		t.Error("it is asked again without a pause")
	}
	hangs.Store(false)
	if v.beat(t.Context()); v.silent {
		t.Error("the server that answers again is taken for dead")
	}
	v.well = func() error { return errors.New("the manager hangs") }
	due()
	if v.beat(t.Context()); !v.silent || v.pulse.Left() > 0 {
		t.Error("a server beside a manager that hangs is alive")
	}
	close(never)
}
