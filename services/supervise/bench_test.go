package supervise

import (
	"testing"
	"time"

	"resinos/services/graph"
	"resinos/services/spec"
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
