package processes

import (
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/proc"
	"resinos/services/spec"
)

// TestSweeps: the looks come at growing intervals up to a limit, and end with the last service.
func TestSweeps(t *testing.T) {
	var w Sweeps
	now := time.Now()
	if w.Due(now) || !w.Next().IsZero() {
		t.Error("a look is due before anything was added")
	}
	if !w.add(1, now) || w.add(1, now) || !w.add(2, now) {
		t.Error("a service is not new once")
	}
	var pauses []time.Duration
	for range 8 {
		pauses = append(pauses, w.Next().Sub(now))
		now = w.Next()
		if !w.Due(now) || w.Due(now.Add(-1)) {
			t.Error("due at another time than Next says")
		}
		w.Plan(now)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 50, 50}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
	w.Drop(1)
	if got := w.Waiting(); !slices.Equal(got, []int{2}) {
		t.Errorf("waiting: %v", got)
	}
	w.Drop(2)
	w.Plan(now)
	if w.Due(now.Add(time.Hour)) {
		t.Error("a look is due for no service")
	}
}

// TestWithoutCgroups: nothing needs a cgroup, and a service that was never started has no process.
func TestWithoutCgroups(t *testing.T) {
	g, sp, c := New(nil, slog.New(slog.DiscardHandler)), &spec.Spec{Name: "a"}, &proc.Command{}
	if err := g.Create(sp, c); err != nil || c.Cgroup != nil {
		t.Errorf("Create: %v, %v", c.Cgroup, err)
	}
	if err := g.Join(sp, c); err != nil || c.Cgroup != nil {
		t.Errorf("Join: %v, %v", c.Cgroup, err)
	}
	g.Limit(sp)
	g.Remove(sp)
	if err := g.Kill(sp, nil); err != nil {
		t.Errorf("Kill: %v", err)
	}
	if err := g.KillAll(); err != nil {
		t.Errorf("KillAll: %v", err)
	}
	if err := g.Signal(sp, nil, unix.SIGTERM); err != os.ErrProcessDone {
		t.Errorf("Signal: %v, want %v", err, os.ErrProcessDone)
	}
	if !g.Sweep("a", 1, nil) || len(g.Sweeps.Waiting()) != 0 || g.OOMKills("a") != 0 || g.Owner(os.Getpid()) != "" {
		t.Error("a service without a process has one")
	}
	if sid, err := unix.Getsid(0); err != nil || g.Session(os.Getpid()) != sid {
		t.Errorf("session %d, want %d, %v", g.Session(os.Getpid()), sid, err)
	}
}
