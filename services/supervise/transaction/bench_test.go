package transaction

import (
	"testing"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

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
		w := New(g, specs, at, Setting{Epoch: at})
		line := append([]Action(nil), w.Begin(at)...)
		for ; len(line) > 0; line = line[1:] {
			if line[0].Act == lifecycle.Fork {
				line = append(line, w.Feed(at, line[0].Service, lifecycle.Input{Began: true, PID: 5})...)
			}
		}
		if w.Services[n-1].Phase != lifecycle.Up {
			b.Fatal("the last service is not up")
		}
	}
}
