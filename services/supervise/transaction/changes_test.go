package transaction

import (
	"slices"
	"testing"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// TestChangesAreGathered: a file that is written many times a second is read once a second, and once after the last
// change. A person who starts the service does not wait, and nor does traffic.
func TestChangesAreGathered(t *testing.T) {
	sp := spec.Spec{Name: "reader", Command: []string{"/bin/sh"}, StopTimeout: time.Minute, KillMode: spec.Group,
		WorkingDirectory: "/"}
	sp.Type, sp.Start, sp.Restart, sp.WatchPaths = spec.Oneshot, spec.OnDemand, spec.Never, []string{"/a"}
	at := time.Unix(1000, 0)
	pid := 0
	var starts []time.Time
	w := New(graph.Build([]graph.Node{{Name: "reader"}}), []spec.Spec{sp}, at, Setting{Epoch: at})
	var do func(actions []Action)
	do = func(actions []Action) {
		for _, a := range slices.Clone(actions) {
			switch a.Act {
			case lifecycle.Fork:
				pid++
				starts = append(starts, at)
				do(w.Feed(at, 0, lifecycle.Input{Began: true, PID: pid}))
			case lifecycle.Sweep:
				do(w.Feed(at, 0, lifecycle.Input{Empty: true}))
			}
		}
	}
	tick := func(end time.Time) { // each life takes 30 ms
		for ; at.Before(end); at = at.Add(10 * time.Millisecond) {
			if s := w.Services[0]; !s.Deadline.IsZero() && !at.Before(s.Deadline) {
				do(w.Feed(at, 0, lifecycle.Input{Event: lifecycle.Timer}))
			}
			if s := w.Services[0]; s.PID != 0 && at.Sub(s.Began) >= 30*time.Millisecond {
				do(w.Feed(at, 0, lifecycle.Input{Event: lifecycle.Exit}))
			}
		}
	}
	do(w.Begin(at))
	for range 100 {
		do(w.Feed(at, 0, lifecycle.Input{Event: lifecycle.Fire}))
		tick(at.Add(50 * time.Millisecond))
	}
	last := at
	tick(at.Add(5 * time.Second))
	if n := len(starts); n < 5 || n > 7 || starts[0] != time.Unix(1000, 0) ||
		starts[n-1].Before(last.Add(-50*time.Millisecond)) || w.Services[0].Phase != lifecycle.Armed {
		t.Errorf("100 changes in 5 s give %d starts, the last %v after the last change; it is %s", n,
			starts[n-1].Sub(last), w.Services[0].Phase)
	}
	do(w.Feed(at, 0, lifecycle.Input{Event: lifecycle.Fire}))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("a change after a pause waits: %d starts", n)
	}
	tick(at.Add(100 * time.Millisecond))
	do(w.Ask(at, 0, lifecycle.Want))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("a person waits: %d starts", n)
	}
	w.Specs[0].Listen.Sockets = []spec.Socket{{Network: "tcp", Address: ":1"}}
	tick(at.Add(100 * time.Millisecond))
	do(w.Feed(at, 0, lifecycle.Input{Event: lifecycle.Fire}))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("traffic waits: %d starts", n)
	}
}
