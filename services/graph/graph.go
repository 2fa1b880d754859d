// Package graph owns the order of services: their dependencies, which of these cannot be satisfied, and the order of
// start and stop. It never looks at a running process and decides nothing about time. Read Graph first.
package graph

import (
	"container/heap"
	"fmt"
	"strings"
)

// Node is one service as the graph sees it.
type Node struct {
	Name  string
	Needs []string // must be up before it; it stops when they stop
	Wants []string // start first if they can
	After []string // start first if they start at all

	Conflicts []string // never run beside it; no order; may be missing
}

// Graph is a set of services in start order with their dependencies. A service is identified by its place in Names:
// every dependency has a lower number than its dependant.
type Graph struct {
	Names     []string // in start order
	Needs     [][]int  // hard: what each needs
	Soft      [][]int  // what each only starts after (wants and after)
	NeededBy  [][]int  // the reverse of Needs
	SoftBy    [][]int  // the reverse of Soft
	Conflicts [][]int  // what never runs beside each, whichever of the two declares it
	Broken    []string // why the service can never start; empty if it can
	Faults    []Fault  // every dependency that could not be satisfied
}

// FaultKind is the kind of a dependency that could not be satisfied.
type FaultKind int

// The kinds. A MissingNeed keeps the service down, a Cycle all its members (it is reported once, for the first member
// in the alphabet). A LooseCycle was cut by ignoring one wants or after. A MissingWant is ignored, and so is a
// Duplicate, the second definition of a service. A Conflict keeps a service down that needs two which never run
// together, or one that never runs beside it.
const (
	MissingNeed FaultKind = iota
	MissingWant
	Cycle
	LooseCycle
	Duplicate
	Conflict
)

// Fault is one dependency that could not be satisfied.
type Fault struct {
	Kind    FaultKind
	Service string
	Text    string // in words, with the path of a cycle
}

// Error returns the fault on one line.
func (f Fault) Error() string { return "service " + f.Service + ": " + f.Text }

// Order returns the services in start order.
func (g *Graph) Order() []string { return g.Names }

// String returns the graph for golden files and people: one service on each line, then the faults.
func (g *Graph) String() string {
	var b strings.Builder
	for i, name := range g.Names {
		fmt.Fprintf(&b, "%3d %s", i+1, name)
		g.line(&b, " needs", g.Needs[i])
		g.line(&b, " after", g.Soft[i])
		g.line(&b, " conflicts", g.Conflicts[i])
		if g.Broken[i] != "" {
			b.WriteString(" DOWN: " + g.Broken[i])
		}
		b.WriteByte('\n')
	}
	for _, f := range g.Faults {
		b.WriteString("fault: " + f.Error() + "\n")
	}
	return b.String()
}

func (g *Graph) line(b *strings.Builder, word string, to []int) {
	if len(to) == 0 {
		return
	}
	b.WriteString(word)
	for _, j := range to {
		b.WriteString(" " + g.Names[j])
	}
}

// intHeap is a min-heap of node numbers, which are in name order.
type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

var _ heap.Interface = (*intHeap)(nil)
