package lifecycle

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/services/spec"
)

// TestDrawingEqualsTable reads the arrows of the drawing above the table next and compares them
// with its entries.
func TestDrawingEqualsTable(t *testing.T) {
	source, err := os.ReadFile("phase.go")
	if err != nil {
		t.Fatal(err)
	}
	_, drawing, _ := strings.Cut(string(source), "// next is the transition table of a service.")
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

// TestChangeFromTheFirstMoment: who reads a watched path when it starts would miss a change between its reading and our
// watching.
func TestChangeFromTheFirstMoment(t *testing.T) {
	sp := spec.Spec{WatchPaths: []string{"/x"}}
	if _, acts := enter(time.Unix(1000, 0), &sp, Service{}, Starting, Clear); !slices.Equal(acts, []Act{Arm, Fork}) {
		t.Errorf("entering starting asks for %v, want to watch before the process is there", acts)
	}
}
