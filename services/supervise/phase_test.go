package supervise

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
)

// TestDrawingEqualsTable reads the arrows of the drawing above the table next and compares them
// with its entries.
func TestDrawingEqualsTable(t *testing.T) {
	source, err := os.ReadFile("phase.go")
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(string(source), "// next is the life of a service.")
	drawing, _, _ = strings.Cut(drawing, "\nvar next")
	var drawn, table []string
	arrow := regexp.MustCompile(`^--(\w+)-->$`)
	for line := range strings.Lines(drawing) {
		words := strings.Fields(line)
		for i := 1; i+1 < len(words); i++ {
			if m := arrow.FindStringSubmatch(words[i]); m != nil {
				drawn = append(drawn, words[i-1]+" "+m[1]+" "+words[i+1])
			}
		}
	}
	for p := range numPhases {
		for e := range numEvents {
			if to := next[p][e]; to != stay {
				table = append(table, p.String()+" "+e.String()+" "+to.String())
			}
		}
	}
	slices.Sort(drawn)
	slices.Sort(table)
	for _, d := range drawn {
		if !slices.Contains(table, d) {
			t.Errorf("drawn but not in the table: %s", d)
		}
	}
	for _, e := range table {
		if !slices.Contains(drawn, e) {
			t.Errorf("in the table but not drawn: %s", e)
		}
	}
	if len(drawn) != len(slices.Compact(drawn)) {
		t.Error("an arrow is drawn twice")
	}
	for p, name := range phaseNames {
		if name == "" {
			t.Errorf("phase %d has no name", p)
		}
	}
	for e, name := range eventNames {
		if name == "" {
			t.Errorf("event %d has no name", e)
		}
	}
}

// TestChangesAreGathered: a file that is written many times a second is read once a second, and once after the last change. A person
// who starts the service does not wait, and nor does traffic.
func TestChangesAreGathered(t *testing.T) {
	sp := sh("reader", "")
	sp.Type, sp.Start, sp.Restart, sp.WatchPaths = spec.Oneshot, spec.OnDemand, spec.Never, []string{"/a"}
	at := time.Unix(1000, 0)
	pid := 0
	var starts []time.Time
	w := newWorld(graph.Build([]graph.Node{{Name: "reader"}}), []spec.Spec{sp}, at, setting{epoch: at})
	var do func(actions []action)
	do = func(actions []action) {
		for _, a := range slices.Clone(actions) {
			switch a.act {
			case fork:
				pid++
				starts = append(starts, at)
				do(w.feed(at, 0, input{began: true, pid: pid}))
			case sweep:
				do(w.feed(at, 0, input{empty: true}))
			}
		}
	}
	tick := func(end time.Time) { // each life takes 30 ms
		for ; at.Before(end); at = at.Add(10 * time.Millisecond) {
			if s := w.svcs[0]; !s.deadline.IsZero() && !at.Before(s.deadline) {
				do(w.feed(at, 0, input{event: timer}))
			}
			if s := w.svcs[0]; s.pid != 0 && at.Sub(s.began) >= 30*time.Millisecond {
				do(w.feed(at, 0, input{event: exit}))
			}
		}
	}
	do(w.begin(at))
	for range 100 {
		do(w.feed(at, 0, input{event: fire}))
		tick(at.Add(50 * time.Millisecond))
	}
	last := at
	tick(at.Add(5 * time.Second))
	if n := len(starts); n < 5 || n > 7 || starts[0] != time.Unix(1000, 0) || starts[n-1].Before(last.Add(-50*time.Millisecond)) || w.svcs[0].phase != armed {
		t.Errorf("100 changes in 5 s give %d starts, the last %v after the last change; it is %s", n, starts[n-1].Sub(last), w.svcs[0].phase)
	}
	do(w.feed(at, 0, input{event: fire}))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("a change after a pause waits: %d starts", n)
	}
	tick(at.Add(100 * time.Millisecond))
	do(w.ask(at, 0, want))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("a person waits: %d starts", n)
	}
	w.specs[0].Listen.Sockets = []spec.Socket{{Network: "tcp", Address: ":1"}}
	tick(at.Add(100 * time.Millisecond))
	do(w.feed(at, 0, input{event: fire}))
	if n := len(starts); starts[n-1] != at {
		t.Errorf("traffic waits: %d starts", n)
	}
}

// TestChangeFromTheFirstMoment: who reads a watched path when it starts would miss a change between its reading and our watching.
func TestChangeFromTheFirstMoment(t *testing.T) {
	sp := spec.Spec{WatchPaths: []string{"/x"}}
	if _, acts := enter(time.Unix(1000, 0), &sp, service{}, starting, clear); !slices.Equal(acts, []act{arm, fork}) {
		t.Errorf("entering starting asks for %v, want to watch before the process is there", acts)
	}
}
