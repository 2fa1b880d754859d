package life

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"resinos/init/boot"
	"resinos/init/lastboot"
	"resinos/init/shutdown"
	"resinos/services/bootreport"
)

func TestTooMany(t *testing.T) {
	life := func(at float64, panicked bool) bootreport.Life { return bootreport.Life{At: at, Panic: panicked} }
	five := []bootreport.Life{life(100, true), life(110, true), life(120, true), life(130, true), life(140, true)}
	for _, tt := range []struct {
		name  string
		lives []bootreport.Life
		now   time.Duration
		want  bool
	}{
		{"none", nil, time.Hour, false},
		{"the sixth in a minute", five, 150 * time.Second, true},
		{"the first is over a minute ago", five, 161 * time.Second, false},
		{"on purpose", []bootreport.Life{life(1, false), life(2, false), life(3, false), life(4, false), life(5, false),
			life(6, false)}, 7 * time.Second, false},
	} {
		if got := tooMany(tt.lives, tt.now); got != tt.want {
			t.Errorf("%s: tooMany = %v", tt.name, got)
		}
	}
}

// TestLastShutdownWaitsForNobody: a supervisor that stands still will never say that it has ended; the watchdog is fed
// meanwhile, and no longer.
func TestLastShutdownWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := slog.New(slog.DiscardHandler)
		p := &PID1{log: silent, system: boot.New(boot.Environment{}, boot.Inputs{}), stop: func() {},
			supervised: make(chan struct{}), stopped: make(chan struct{})}
		close(p.supervised) // frozen for a re-exec that failed
		d := p.lastShutdown("re-exec: no")
		select {
		case <-d.Ended:
		default:
			t.Error("it waits for services that nobody stops")
		}
		stuck := errors.New("stands still")
		ask := p.unlessGoingDown(func(context.Context) error { return stuck })
		if err := ask(t.Context()); err != nil {
			t.Errorf("the watchdog is not fed during the shutdown: %v", err)
		}
		saved := d.Save()
		saved.Since -= time.Hour
		p.beginShutdown(shutdown.Resume(d.Config, saved))
		if err := ask(t.Context()); err != stuck {
			t.Errorf("the watchdog is fed when the time of the shutdown is over: %v", err)
		}
		if d.End.How != lastboot.EndPanic || d.End.Why != "re-exec: no" {
			t.Errorf("the next boot is told %+v", d.End)
		}
	})
}
