package graph

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"
)

// strength is the strength of an edge. Of two edges between the same services the stronger one stays.
type strength int

const (
	after strength = iota
	wants
	needs
)

type edge struct {
	to   int
	kind strength
}

// builder holds the graph with nodes numbered by name while the order is being found.
type builder struct {
	nodes   []Node
	names   []string
	out     [][]edge // the dependencies of each node
	in      [][]int  // the dependants of each node
	waiting []int    // number of dependencies that are not placed yet
	placed  []bool
	broken  []string
	order   []int
	faults  []Fault
}

// Build orders nodes. The graph always contains every (distinct) service: problems are in Faults, and in Broken if they
// keep a service from ever starting. The result depends only on the set of nodes, not on their sequence.
func Build(nodes []Node) *Graph {
	b := &builder{}
	b.read(nodes)
	b.place()
	return b.graph()
}

func (b *builder) read(nodes []Node) {
	nodes = slices.Clone(nodes)
	slices.SortStableFunc(nodes, func(x, y Node) int { return strings.Compare(x.Name, y.Name) })
	kept := nodes[:0]
	index := make(map[string]int, len(nodes))
	for _, n := range nodes {
		if _, twice := index[n.Name]; twice {
			b.fault(Duplicate, n.Name, "is defined twice, the first definition is used")
			continue
		}
		index[n.Name] = len(kept)
		kept = append(kept, n)
	}
	b.nodes, b.names = kept, make([]string, len(kept))
	b.out, b.in = make([][]edge, len(kept)), make([][]int, len(kept))
	b.waiting, b.placed = make([]int, len(kept)), make([]bool, len(kept))
	b.broken = make([]string, len(kept))
	for i, n := range kept {
		b.names[i] = n.Name
		b.edges(i, n, index)
	}
}

func (b *builder) edges(i int, n Node, index map[string]int) {
	strongest := map[int]strength{}
	add := func(list []string, kind strength) {
		for _, name := range list {
			j, known := index[name]
			switch {
			case known:
				strongest[j] = max(strongest[j], kind)
			case kind == needs:
				text := "needs " + name + ", which does not exist"
				b.fault(MissingNeed, n.Name, text)
				b.broken[i] = text
			case kind == wants:
				b.fault(MissingWant, n.Name, "wants "+name+", which does not exist")
			}
		}
	}
	add(n.Needs, needs)
	add(n.Wants, wants)
	add(n.After, after)
	for j, kind := range strongest {
		b.out[i] = append(b.out[i], edge{j, kind})
		b.in[j] = append(b.in[j], i)
	}
	slices.SortFunc(b.out[i], func(x, y edge) int { return x.to - y.to })
	b.waiting[i] = len(b.out[i])
}

func (b *builder) fault(kind FaultKind, service, text string) {
	b.faults = append(b.faults, Fault{Kind: kind, Service: service, Text: text})
}

// place is Kahn's algorithm, smallest name first. If no node is free, a cycle is left: it is cut at its weakest edge,
// or, if all its edges are needs, its members are marked broken.
func (b *builder) place() {
	var free intHeap
	for i := range b.names {
		if b.waiting[i] == 0 {
			free = append(free, i)
		}
	}
	heap.Init(&free)
	release := func(i int) { // one dependency less
		if b.waiting[i]--; b.waiting[i] == 0 && !b.placed[i] {
			heap.Push(&free, i)
		}
	}
	for next := 0; len(b.order) < len(b.names); {
		for free.Len() > 0 {
			i := heap.Pop(&free).(int)
			b.placed[i] = true
			b.order = append(b.order, i)
			for _, dependant := range b.in[i] {
				release(dependant)
			}
		}
		for next < len(b.names) && b.placed[next] {
			next++
		}
		if next < len(b.names) {
			b.cut(b.cycle(next), release)
		}
	}
}

// cycle follows unplaced dependencies from start until it returns to a node. Every unplaced node has one, otherwise it
// would be free. The result begins with its smallest name.
func (b *builder) cycle(start int) []int {
	seen := map[int]int{}
	var walk []int
	for i := start; ; {
		if at, again := seen[i]; again {
			walk = walk[at:]
			break
		}
		seen[i] = len(walk)
		walk = append(walk, i)
		i = b.unplaced(i)
	}
	low := slices.Index(walk, slices.Min(walk))
	return append(slices.Clone(walk[low:]), walk[:low]...)
}

// unplaced selects the dependency to follow: needs first, so that a cycle of needs is found even if softer dependencies
// touch it.
func (b *builder) unplaced(i int) int {
	best, kind := -1, strength(-1)
	for _, e := range b.out[i] {
		if !b.placed[e.to] && e.kind > kind {
			best, kind = e.to, e.kind
		}
	}
	return best
}

func (b *builder) cut(cycle []int, release func(int)) {
	weakest, at := needs+1, -1
	for k, i := range cycle {
		if kind := b.kind(i, cycle[(k+1)%len(cycle)]); kind <= weakest {
			weakest, at = kind, k
		}
	}
	text := b.path(cycle)
	if weakest < needs {
		from, to := cycle[at], cycle[(at+1)%len(cycle)]
		b.fault(LooseCycle, b.names[from], fmt.Sprintf("cycle %s: order after %s is ignored", text, b.names[to]))
		b.remove(from, to, release)
		return
	}
	b.fault(Cycle, b.names[cycle[0]], "cycle "+text)
	for k, i := range cycle {
		if b.broken[i] == "" {
			b.broken[i] = "cycle " + text
		}
		b.remove(i, cycle[(k+1)%len(cycle)], release)
	}
}

// maxPath limits the services that are named for a cycle.
const maxPath = 16

func (b *builder) path(cycle []int) string {
	var words []string
	for _, i := range cycle[:min(len(cycle), maxPath)] {
		words = append(words, b.names[i])
	}
	if more := len(cycle) - maxPath; more > 0 {
		words = append(words, fmt.Sprintf("(%d more)", more))
	}
	return strings.Join(append(words, b.names[cycle[0]]), " -> ")
}

func (b *builder) kind(from, to int) strength {
	for _, e := range b.out[from] {
		if e.to == to {
			return e.kind
		}
	}
	return -1 // not reached: cycle follows edges only
}

func (b *builder) remove(from, to int, release func(int)) {
	b.out[from] = slices.DeleteFunc(b.out[from], func(e edge) bool { return e.to == to })
	b.in[to] = slices.DeleteFunc(b.in[to], func(i int) bool { return i == from })
	release(from)
}

// graph renumbers everything by start order.
func (b *builder) graph() *Graph {
	n := len(b.names)
	place := make([]int, n)
	for at, i := range b.order {
		place[i] = at
	}
	g := &Graph{
		Names: make([]string, n), Broken: make([]string, n), Faults: b.faults,
		Needs: make([][]int, n), Soft: make([][]int, n), NeededBy: make([][]int, n), SoftBy: make([][]int, n),
	}
	for at, i := range b.order {
		g.Names[at], g.Broken[at] = b.names[i], b.broken[i]
		for _, e := range b.out[i] {
			to := place[e.to]
			if e.kind == needs {
				g.Needs[at] = append(g.Needs[at], to)
				g.NeededBy[to] = append(g.NeededBy[to], at)
			} else {
				g.Soft[at] = append(g.Soft[at], to)
				g.SoftBy[to] = append(g.SoftBy[to], at)
			}
		}
		slices.Sort(g.Needs[at])
		slices.Sort(g.Soft[at])
	}
	g.conflict(b.nodes)
	return g
}
