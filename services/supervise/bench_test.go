package supervise

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
)

// BenchmarkTwoHundred runs the program in testdata/bench: 200 services started and seen running,
// the supervisor's private memory, and the time from a kill -9 to the new process.
func BenchmarkTwoHundred(b *testing.B) {
	program := filepath.Join(b.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./testdata/bench").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	sums := map[string]float64{}
	for b.Loop() {
		out, err := exec.Command(program, "200", "100").Output()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		var r map[string]any
		if err := json.Unmarshal(out, &r); err != nil {
			b.Fatal(err)
		}
		for key, v := range r {
			if f, ok := v.(float64); ok {
				sums[key] += f
			}
		}
	}
	for _, key := range []string{"start_ms", "start_cpu_ms", "private_kb", "restart_median_ms", "restart_p99_ms", "cpu_ticks_in_2s_at_rest"} {
		b.ReportMetric(sums[key]/float64(b.N), key)
	}
}

// BenchmarkWorld is the cost of deciding alone: ten thousand services in a tree come up.
func BenchmarkWorld(b *testing.B) {
	const n = 10000
	nodes, specs := make([]graph.Node, n), make([]spec.Spec, n)
	name := func(i int) string {
		return "s" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
	}
	for i := range nodes {
		nodes[i].Name = name(i)
		if i > 0 {
			nodes[i].Needs = []string{name((i - 1) / 10)}
		}
	}
	g := graph.Build(nodes)
	for i := range specs {
		specs[i] = spec.Spec{Name: g.Names[i], Type: spec.Simple, Restart: spec.Always}
	}
	for b.Loop() {
		at := time.Unix(0, 0)
		w := newWorld(g, specs, at, setting{epoch: at})
		line := append([]action(nil), w.begin(at)...)
		for ; len(line) > 0; line = line[1:] {
			if line[0].act == fork {
				line = append(line, w.feed(at, line[0].svc, input{began: true, pid: 5})...)
			}
		}
		if w.svcs[n-1].phase != up {
			b.Fatal("the last service is not up")
		}
	}
}
