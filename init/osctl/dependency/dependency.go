// Package dependency owns the command graph of osctl: which services each service needs, wants and starts after, drawn
// as a tree, as a picture or as input of Graphviz. It draws definitions that are wrong too, with cycles and missing
// services. Read ties first.
package dependency

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/look"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// node is one service as graph --json prints it.
type node struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	Needs []string `json:"needs,omitempty"`
	Wants []string `json:"wants,omitempty"`
	After []string `json:"after,omitempty"`
}

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Show runs the command graph.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	reverse := flags.Bool("reverse", false, "shows the services that depend on a service, not those that it depends on")
	dot := flags.Bool("dot", false, "prints Graphviz input")
	svg := flags.Bool("svg", false, "draws the services in the order of their start, for a browser")
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) > 1 {
		return cli.Misuse("graph takes one service", "try: osctl graph "+names[0])
	}
	if *svg && (*dot || *asJSON) {
		return cli.Misuse("graph --svg is one form, and takes no other", "try: osctl graph --svg > services.svg")
	}
	if *svg {
		if *reverse {
			names = append([]string{"--reverse"}, names...)
		}
		return s.Draw("graph", names...)
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	t := newTies(list, *reverse)
	roots, err := t.chosen(names)
	if err != nil {
		return err
	}
	switch {
	case *asJSON:
		nodes := []node{}
		for _, i := range t.reach(roots) {
			st := &list[i]
			nodes = append(nodes, node{st.Name, st.State, st.Needs, st.Wants, st.After})
		}
		return s.PrintJSON(nodes)
	case *dot:
		_, err = io.WriteString(s.Stdout, t.dot(roots))
	default:
		_, err = io.WriteString(s.Stdout, s.graphText(t, roots))
	}
	return err
}

// tie leads from one service to another.
type tie struct {
	to   int
	word string // needs, wants or after
}

// ties is the graph of the services in list, each by its place there.
type ties struct {
	list    []pid1.ServiceStatus
	reverse bool
	out     [][]tie
}

// newTies reads the graph. Of two ties between the same services the stronger counts; one to a service that is not
// there is left out.
func newTies(list []pid1.ServiceStatus, reverse bool) ties {
	t := ties{list: list, reverse: reverse, out: make([][]tie, len(list))}
	index := map[string]int{}
	for i := range list {
		index[list[i].Name] = i
	}
	for i := range list {
		st := &list[i]
		seen := map[int]bool{}
		for _, kind := range []struct {
			word  string
			names []string
		}{{"needs", st.Needs}, {"wants", st.Wants}, {"after", st.After}} {
			for _, name := range kind.names {
				j, known := index[name]
				if !known || seen[j] {
					continue
				}
				seen[j] = true
				from, to := i, j
				if reverse {
					from, to = j, i
				}
				t.out[from] = append(t.out[from], tie{to, kind.word})
			}
		}
	}
	return t
}

// chosen are the roots of what is shown: the service that was named, or all roots.
func (t ties) chosen(names []string) ([]int, error) {
	if len(names) == 0 {
		return t.roots(), nil
	}
	roots := t.find(names[0])
	if len(roots) == 0 {
		return nil, cli.NoService(t.list, names[0])
	}
	return roots, nil
}

// find is the place of one service, if it is there.
func (t ties) find(name string) []int {
	for i := range t.list {
		if t.list[i].Name == name {
			return []int{i}
		}
	}
	return nil
}

// roots are the services that nothing leads to, or all of them where only cycles are.
func (t ties) roots() []int {
	led := make([]bool, len(t.list))
	for _, out := range t.out {
		for _, e := range out {
			led[e.to] = true
		}
	}
	var roots []int
	for i := range t.list {
		if !led[i] {
			roots = append(roots, i)
		}
	}
	// A cycle that nothing leads into has no root of its own.
	seen := make([]bool, len(t.list))
	mark := func(from []int) {
		for _, i := range t.reach(from) {
			seen[i] = true
		}
	}
	mark(roots)
	for i := range t.list {
		if !seen[i] {
			roots = append(roots, i)
			mark([]int{i})
		}
	}
	return roots
}

// reach lists what the roots lead to, themselves included, in the order of list.
func (t ties) reach(roots []int) []int {
	seen := make([]bool, len(t.list))
	todo := slices.Clone(roots)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[i] {
			continue
		}
		seen[i] = true
		for _, e := range t.out[i] {
			todo = append(todo, e.to)
		}
	}
	var all []int
	for i := range seen {
		if seen[i] {
			all = append(all, i)
		}
	}
	return all
}

// graphText draws the graph as a tree. A service that has been drawn with all below it is drawn again without.
func (s *session) graphText(t ties, roots []int) string {
	g := s.Glyphs()
	drawn := make([]bool, len(t.list))
	var rows [][]screen.Cell
	var draw func(e tie, lead, rest string)
	draw = func(e tie, lead, rest string) {
		st := &t.list[e.to]
		word := e.word
		if t.reverse && word != "" {
			word = map[string]string{"needs": "needs it", "wants": "wants it", "after": "after it"}[word]
		}
		again := drawn[e.to] && len(t.out[e.to]) > 0
		if again {
			word += ", above"
		}
		rows = append(rows, []screen.Cell{
			look.Sign(&s.Screen, st), {Text: lead + screen.Escape(st.Name)},
			{Text: strings.TrimPrefix(word, ", "), Colour: screen.Dim},
			{Text: screen.Escape(st.State), Colour: look.Colour(st.State)},
		})
		if again {
			return
		}
		drawn[e.to] = true
		for i, next := range t.out[e.to] {
			branch, bar := g.Branch, g.Bar
			if i == len(t.out[e.to])-1 {
				branch, bar = g.Corner, "  "
			}
			draw(next, rest+branch, rest+bar)
		}
	}
	for _, i := range roots {
		draw(tie{to: i}, "", "")
	}
	return s.Table(rows)
}

// dot writes the graph in the language of Graphviz: arrows point at what goes first.
func (t ties) dot(roots []int) string {
	var b strings.Builder
	b.WriteString("digraph services {\n\trankdir=BT;\n\tnode [shape=box];\n")
	inside := t.reach(roots)
	for _, i := range inside {
		fmt.Fprintf(&b, "\t%q [tooltip=%q];\n", t.list[i].Name, t.list[i].State)
	}
	for _, i := range inside {
		for _, e := range t.out[i] {
			from, to := i, e.to
			if t.reverse {
				from, to = to, from
			}
			style := map[string]string{"needs": "solid", "wants": "dashed", "after": "dotted"}[e.word]
			fmt.Fprintf(&b, "\t%q -> %q [style=%s];\n", t.list[from].Name, t.list[to].Name, style)
		}
	}
	b.WriteString("}\n")
	return b.String()
}
