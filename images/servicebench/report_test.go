package servicebench

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// outVariable names the file that keeps what was measured, as JSON: one object with a member a test.
const outVariable = "RESINOS_BENCH_OUT"

// figures names each table, in order.
var figures = []struct {
	name string
	of   func(sample) []float64
}{
	{"exec of the manager to the first byte of the last service, ms",
		func(s sample) []float64 { return []float64{s.Start} }},
	{"private memory of the manager alone, KiB", func(s sample) []float64 { return []float64{s.Private} }},
	{"of it anonymous, KiB (the rest is its program, which nobody shares here)",
		func(s sample) []float64 { return []float64{s.Anonymous} }},
	{"private memory with its helpers, KiB", func(s sample) []float64 { return []float64{s.AllMemory} }},
	{"processes, the services left out", func(s sample) []float64 { return []float64{s.Processes} }},
	{"kill -9 to the first byte of the new life, ms", func(s sample) []float64 { return s.Restarts }},
	{"CPU in 10 s at rest, with helpers, ms", func(s sample) []float64 { return []float64{s.CPU} }},
	{"context switches in 10 s at rest, with helpers", func(s sample) []float64 { return []float64{s.Switches} }},
}

// summary is the middle and the ends of some values.
type summary struct{ Median, Least, Most float64 }

func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	v := slices.Sorted(slices.Values(values))
	return summary{v[len(v)/2], v[0], v[len(v)-1]}
}

// report prints one table a figure and keeps all samples.
func report(t *testing.T, plans map[string]plan, results map[string][]sample) {
	t.Helper()
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, m := range managers {
		if _, here := plans[m.name]; here {
			fmt.Fprintf(out, "%s\t%s\t%s\n\t\tafter a crash: %s\n", m.name, m.versionOf(), m.how, m.policy)
		} else {
			fmt.Fprintf(out, "%s\tnot measured, no binary\t\n", m.name)
		}
	}
	for _, f := range figures {
		fmt.Fprintf(out, "\n%s\nmanager\tmedian\tleast\tmost\tof\n", f.name)
		for _, m := range managers {
			var values []float64
			for _, s := range results[m.name] {
				values = append(values, f.of(s)...)
			}
			if len(values) > 0 {
				s := summarize(values)
				fmt.Fprintf(out, "%s\t%.6g\t%.6g\t%.6g\t%d\n", m.name, s.Median, s.Least, s.Most, len(values))
			}
		}
	}
	out.Flush()
	fmt.Printf("\n%d services, %d rounds\n%s", services(), rounds(), b.String())
	keep(t, "peers", results)
}

// keep puts what a test measured into the file, beside what the others did.
func keep(t *testing.T, name string, what any) {
	t.Helper()
	path := os.Getenv(outVariable)
	if path == "" {
		return
	}
	all := map[string]json.RawMessage{}
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &all); err != nil {
			t.Logf("%s is written again: %v", path, err)
			clear(all)
		}
	}
	text, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	all[name] = text
	if text, err = json.MarshalIndent(all, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s holds %v", path, slices.Sorted(maps.Keys(all)))
}

// slope is the least-squares slope of y over x.
func slope(x, y []float64) float64 {
	var meanX, meanY, num, den float64
	for i := range x {
		meanX, meanY = meanX+x[i]/float64(len(x)), meanY+y[i]/float64(len(y))
	}
	for i := range x {
		num, den = num+(x[i]-meanX)*(y[i]-meanY), den+(x[i]-meanX)*(x[i]-meanX)
	}
	if den == 0 {
		return 0
	}
	return num / den
}

func TestSlope(t *testing.T) {
	for _, c := range []struct {
		x, y []float64
		want float64
	}{
		{[]float64{0, 1, 2, 3}, []float64{5, 7, 9, 11}, 2},
		{[]float64{0, 10, 20}, []float64{3, 3, 3}, 0},
		{[]float64{4}, []float64{9}, 0},
		{[]float64{0, 1, 2}, []float64{0, 3, 0}, 0},
	} {
		if got := slope(c.x, c.y); got != c.want {
			t.Errorf("slope(%v, %v) = %v, want %v", c.x, c.y, got, c.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	if got, want := summarize([]float64{9, 1, 5, 3, 7}), (summary{5, 1, 9}); got != want {
		t.Errorf("summarize = %v, want %v", got, want)
	}
	if got := summarize(nil); got != (summary{}) {
		t.Errorf("summarize of nothing = %v", got)
	}
}
