package ahead

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"resinos/mounts/testenv"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// stage is a device whose splash writes a line into a pipe.
type stage struct {
	Start
	screen string
	drawn  *os.File // what the processes write
	beside sync.WaitGroup
	loads  int // of drivers
	asked  int
}

func newStage(t *testing.T) *stage {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{screen: filepath.Join(t.TempDir(), "fb0"), drawn: r}
	s.Start = Start{
		Log: slog.New(slog.DiscardHandler), Reaper: proc.NewReaper(), Screen: s.screen,
		Holds:   func(c precondition.Condition) (bool, string) { return !strings.Contains(c.Value, "no"), "" },
		Output:  func(string) (*os.File, error) { return w, nil },
		Display: func() bool { return true },
		Drivers: func() error { s.loads++; return os.WriteFile(s.screen, nil, 0o600) },
		Ask:     func(context.Context) error { s.asked++; return nil },
		Go:      func(_ string, run func()) { s.beside.Go(run) },
	}
	ctx, stop := context.WithCancel(context.Background())
	s.beside.Go(func() { _ = s.Reaper.Run(ctx) })
	t.Cleanup(func() {
		stop()
		s.beside.Wait()
		r.Close()
		w.Close()
	})
	return s
}

// splash is the definition of the service, with conditions on paths.
func splash(screen string, paths ...string) spec.Spec {
	sp := spec.Spec{Name: Service, Command: []string{"/bin/sh", "-c", "echo drawn"}, WorkingDirectory: "/",
		Type: spec.Oneshot, Start: spec.AtBoot, Limits: spec.Limits{BootCPUWeight: first}}
	for _, path := range append(paths, screen) {
		sp.Conditions = append(sp.Conditions, precondition.Condition{Kind: precondition.Path, Value: path})
	}
	return sp
}

// TestBegin: the service is started at once where there is a screen, behind the driver where there is a display, and
// not at all where a condition does not hold, or its owner has decided otherwise.
func TestBegin(t *testing.T) {
	for _, tt := range []struct {
		name    string
		screen  bool
		change  func(*stage, *spec.Spec)
		started bool
		loads   int
	}{
		{"a screen", true, nil, true, 0},
		{"a display", false, nil, true, 1},
		{"neither", false, func(s *stage, _ *spec.Spec) { s.Display = func() bool { return false } }, false, 0},
		{"no logo", true, func(s *stage, sp *spec.Spec) { *sp = splash(s.screen, "/no/logo") }, false, 0},
		{"masked", true, func(_ *stage, sp *spec.Spec) { sp.Masked = true }, false, 0},
		{"on demand", true, func(_ *stage, sp *spec.Spec) { sp.Start = spec.OnDemand }, false, 0},
		{"less weight", false, func(_ *stage, sp *spec.Spec) { sp.Limits.BootCPUWeight = 1 }, false, 0},
		{"no driver", false, func(s *stage, _ *spec.Spec) {
			s.Drivers = func() error { s.loads++; return errors.New("none") }
		}, false, 1},
		{"a driver that panics", false, func(s *stage, _ *spec.Spec) {
			s.Drivers = func() error { s.loads++; panic("driver") }
		}, false, 1},
		{"a driver without a screen", false, func(s *stage, _ *spec.Spec) {
			s.Drivers = func() error { s.loads++; return nil }
		}, false, 1},
		{"no program", true, func(_ *stage, sp *spec.Spec) { sp.Command = []string{"/usr/no/such"} }, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t)
			var work sync.WaitGroup
			s.Go = func(_ string, run func()) { work.Go(run) }
			sp := splash(s.screen)
			if tt.change != nil {
				tt.change(s, &sp)
			}
			if tt.screen {
				if err := os.WriteFile(s.screen, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s.Begin(sp)
			work.Wait() // until the process has ended
			got := s.Taken()
			if (got[Service] != nil) != tt.started || s.loads != tt.loads || s.asked != 0 {
				t.Errorf("started %v, drivers loaded %d times, asked %d times", got, s.loads, s.asked)
			}
			if !tt.started {
				return
			}
			text := make([]byte, 100)
			n, err := s.drawn.Read(text)
			if err != nil && !errors.Is(err, io.EOF) || !strings.Contains(string(text[:n]), "drawn") {
				t.Errorf("the process wrote %q, %v", text[:n], err)
			}
		})
	}
}

// TestLate: a screen that comes when the supervisor has looked for it already is the supervisor's.
func TestLate(t *testing.T) {
	s := newStage(t)
	load := make(chan struct{})
	done := make(chan struct{})
	s.Drivers = func() error { <-load; return os.WriteFile(s.screen, nil, 0o600) }
	s.Go = func(_ string, run func()) { s.beside.Go(func() { run(); close(done) }) }
	s.Begin(splash(s.screen))
	if got := s.Taken(); got != nil {
		t.Errorf("taken %v before the screen is there", got)
	}
	close(load)
	testenv.Receive(t, "the end", done)
	if got := s.Taken(); got != nil || s.asked != 1 {
		t.Errorf("taken %v, asked %d times", got, s.asked)
	}
}
