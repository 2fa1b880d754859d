package graph

import "slices"

// conflict records which services never run together, and marks those that therefore can never run.
func (g *Graph) conflict(nodes []Node) {
	g.Conflicts = make([][]int, len(g.Names))
	var place map[string]int
	for _, n := range nodes {
		if len(n.Conflicts) > 0 && place == nil {
			place = make(map[string]int, len(g.Names))
			for at, name := range g.Names {
				place[name] = at
			}
		}
		for _, name := range n.Conflicts {
			a := place[n.Name]
			if b, known := place[name]; known && a != b {
				g.Conflicts[a] = append(g.Conflicts[a], b)
				g.Conflicts[b] = append(g.Conflicts[b], a)
			}
		}
	}
	for at, list := range g.Conflicts {
		slices.Sort(list)
		g.Conflicts[at] = slices.Compact(list)
	}
	ofA, ofB := make([]bool, len(g.Names)), make([]bool, len(g.Names))
	for a, list := range g.Conflicts {
		if len(list) == 0 || len(g.NeededBy[a]) == 0 || g.Broken[a] != "" {
			continue // a service that needs both has a higher number than both, and may be marked already
		}
		needA := g.needing(a, ofA, nil)
		for _, b := range list {
			if b < a {
				continue
			}
			needB := g.needing(b, ofB, ofA)
			slices.Sort(needB)
			for _, at := range needB {
				g.impossible(at, a, b, ofA, ofB)
			}
			forget(needB, ofB)
		}
		forget(needA, ofA)
	}
}

// impossible marks at if it needs both a and b, which conflict; at may be b itself. What needs a marked service waits
// for it, as for any service that is down.
func (g *Graph) impossible(at, a, b int, ofA, ofB []bool) {
	if !ofA[at] || slices.ContainsFunc(g.Needs[at], func(n int) bool { return ofA[n] && ofB[n] }) {
		return
	}
	text := "needs " + g.Names[a] + " and " + g.Names[b] + ", which conflict"
	if at == b {
		text = "needs " + g.Names[a] + ", which conflicts with it"
	}
	g.Faults = append(g.Faults, Fault{Kind: Conflict, Service: g.Names[at], Text: text})
	if g.Broken[at] == "" {
		g.Broken[at] = text
	}
}

// needing returns at and everything that needs it, directly or not, and marks these in seen. It does not look beyond a
// broken service or one in stop: what is there is down with it.
func (g *Graph) needing(at int, seen, stop []bool) []int {
	list := []int{at}
	seen[at] = true
	for i := 0; i < len(list); i++ {
		if g.Broken[list[i]] != "" || stop != nil && stop[list[i]] {
			continue
		}
		for _, next := range g.NeededBy[list[i]] {
			if !seen[next] {
				seen[next] = true
				list = append(list, next)
			}
		}
	}
	return list
}

func forget(list []int, seen []bool) {
	for _, at := range list {
		seen[at] = false
	}
}
