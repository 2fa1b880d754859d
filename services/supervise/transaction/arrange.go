package transaction

import (
	"log/slog"

	"resinos/services/graph"
	"resinos/services/spec"
)

// Arrange sorts service definitions into start order, in place: there may be hundreds, of a kilobyte each.
func Arrange(list []spec.Spec, log *slog.Logger) (*graph.Graph, []spec.Spec) {
	nodes := make([]graph.Node, len(list))
	place := make(map[string]int, len(list))
	for i := range list {
		sp := &list[i]
		nodes[i] = graph.Node{Name: sp.Name, Needs: sp.Needs, Wants: sp.Wants, After: sp.After, Conflicts: sp.Conflicts}
		if _, twice := place[sp.Name]; !twice { // the graph, too, keeps the first
			place[sp.Name] = i
		}
	}
	g := graph.Build(nodes)
	for _, f := range g.Faults {
		log.Error("service order", "service", f.Service, "error", f.Text)
	}
	for i, name := range g.Names {
		from, moved := place[name], list[i].Name
		list[i], list[from] = list[from], list[i]
		if place[moved] == i {
			place[moved] = from
		}
	}
	return g, list[:len(g.Names)]
}
