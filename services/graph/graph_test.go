package graph

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"resinos/mounts/testenv"
)

// read makes nodes of lines "name needs a b wants c after d conflicts e".
func read(text string) []Node {
	var nodes []Node
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		n := Node{Name: words[0]}
		list := &n.After
		for _, w := range words[1:] {
			switch w {
			case "needs":
				list = &n.Needs
			case "wants":
				list = &n.Wants
			case "after":
				list = &n.After
			case "conflicts":
				list = &n.Conflicts
			default:
				*list = append(*list, w)
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			testenv.Golden(t, strings.TrimSuffix(filepath.Base(file), ".txt")+".golden",
				Build(read(string(data))).String())
		})
	}
}

// TestAnyGraph: whatever is asked, every service is in the order once, behind all it waits for,
// and only those in a cycle of needs or without a need are broken.
func TestAnyGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := func() string { return fmt.Sprintf("s%d", rapid.IntRange(0, 8).Draw(t, "name")) }
		list := func() []string {
			return rapid.SliceOfN(rapid.Custom(func(*rapid.T) string { return name() }), 0, 3).Draw(t, "list")
		}
		var nodes []Node
		names := map[string]bool{}
		for range rapid.IntRange(0, 9).Draw(t, "nodes") {
			n := Node{Name: name(), Needs: list(), Wants: list(), After: list(), Conflicts: list()}
			nodes = append(nodes, n)
			names[n.Name] = true
		}
		g := Build(nodes)
		if len(g.Names) != len(names) {
			t.Fatalf("%d services of %d are in the order", len(g.Names), len(names))
		}
		for i := range g.Names {
			for _, j := range slices.Concat(g.Needs[i], g.Soft[i]) {
				if j >= i {
					t.Fatalf("%s does not come after %s", g.Names[i], g.Names[j])
				}
			}
			for _, j := range g.Needs[i] {
				if !slices.Contains(g.NeededBy[j], i) {
					t.Fatalf("NeededBy lacks %s -> %s", g.Names[i], g.Names[j])
				}
			}
		}
		checkConflicts(t, g)
		shuffled := slices.Clone(nodes)
		if len(names) == len(nodes) { // of two definitions the first counts
			slices.Reverse(shuffled)
			if a, b := g.String(), Build(shuffled).String(); a != b {
				t.Fatalf("the sequence of nodes matters:\n%s\n%s", a, b)
			}
		}
	})
}

// checkConflicts: they are mutual, and whoever needs two that conflict is down, itself or by a need.
func checkConflicts(t *rapid.T, g *Graph) {
	down := make([]bool, len(g.Names))
	below := make([][]int, len(g.Names)) // itself and all it needs
	for i := range g.Names {
		down[i] = g.Broken[i] != ""
		below[i] = []int{i}
		for _, j := range g.Needs[i] {
			down[i] = down[i] || down[j]
			below[i] = append(below[i], below[j]...)
		}
		for _, a := range below[i] {
			for _, b := range g.Conflicts[a] {
				if !slices.Contains(g.Conflicts[b], a) {
					t.Fatalf("%s conflicts with %s and not the other way", g.Names[a], g.Names[b])
				}
				if slices.Contains(below[i], b) && !down[i] {
					t.Fatalf("%s needs %s and %s and is not down", g.Names[i], g.Names[a], g.Names[b])
				}
			}
		}
	}
}

// big is n services in layers, every one with some needs and wants in the layers before, and
// cycles sprinkled over them.
func big(n int) []Node {
	r := rand.New(rand.NewPCG(1, 2))
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i].Name = fmt.Sprintf("service-%05d", i)
		for range min(i, 3) {
			nodes[i].Needs = append(nodes[i].Needs, fmt.Sprintf("service-%05d", r.IntN(i)))
			nodes[i].Wants = append(nodes[i].Wants, fmt.Sprintf("service-%05d", r.IntN(i)))
		}
		if i%100 == 50 {
			nodes[i].After = []string{fmt.Sprintf("service-%05d", min(n-1, i+r.IntN(50)))}
		}
	}
	return nodes
}

// cpuTime is what this process has used: unlike the clock, others on the host do not make it pass.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestTenThousand(t *testing.T) {
	chain := make([]Node, 10000)
	for i := range chain {
		chain[i] = Node{Name: fmt.Sprintf("%05d", i), Needs: []string{fmt.Sprintf("%05d", (i+1)%len(chain))}}
	}
	twos := make([]Node, 10000) // 5000 cycles of two, hanging on a chain
	for i := range twos {
		twos[i] = Node{Name: fmt.Sprintf("%05d", i), After: []string{fmt.Sprintf("%05d", i^1)},
			Needs: []string{fmt.Sprintf("%05d", (i+2)%10002)}}
	}
	foes := make([]Node, 10000) // a chain in which each conflicts with its need and its need's need
	for i := range foes {
		foes[i] = Node{Name: fmt.Sprintf("%05d", i)}
		if i > 1 {
			foes[i].Needs = []string{foes[i-1].Name}
			foes[i].Conflicts = []string{foes[i-1].Name, foes[i-2].Name}
		}
	}
	for name, nodes := range map[string][]Node{"layers": big(10000), "one cycle of all": chain, "many cycles": twos,
		"foes": foes} {
		begin := cpuTime(t)
		g := Build(nodes)
		testenv.AtMost(t, name, cpuTime(t)-begin, 5*time.Second)
		if len(g.Names) != len(nodes) {
			t.Errorf("%s: %d services in the order", name, len(g.Names))
		}
	}
}

func BenchmarkTenThousand(b *testing.B) {
	nodes := big(10000)
	for b.Loop() {
		Build(nodes)
	}
}
