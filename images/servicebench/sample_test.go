package servicebench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// benchVariable must be set: measuring takes minutes of an otherwise idle host.
const benchVariable = "RESINOS_BENCH"

// How much is measured; each can be set for a shorter or longer run.
func rounds() int        { return number("RESINOS_ROUNDS", 5) }
func services() int      { return number("RESINOS_SERVICES", 200) }
func killsPerRound() int { return number("RESINOS_KILLS", 10) } // of a round, each of another service

const (
	settle = 3 * time.Second  // from the last service's start to rest
	rest   = 10 * time.Second // that CPU and context switches are counted for
	pause  = 50 * time.Millisecond
)

func number(variable string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return usual
}

// sample is what one life of one manager shows.
type sample struct {
	Start     float64   `json:"start_ms"`           // its execve to the first byte of the last service
	Private   float64   `json:"private_kib"`        // of the manager alone
	Anonymous float64   `json:"anonymous_kib"`      // the same without the pages of its files
	AllMemory float64   `json:"private_all_kib"`    // with its helpers
	Processes float64   `json:"processes"`          // it and its helpers
	CPU       float64   `json:"rest_cpu_ms"`        // in 10 s at rest, with its helpers
	Switches  float64   `json:"rest_switches"`      // the same
	Restarts  []float64 `json:"restart_ms_of_each"` // kill -9 to the first byte of the new life
}

// TestPeers measures the managers in alternating rounds, so that a busy minute of the host meets all of them.
func TestPeers(t *testing.T) {
	needBench(t)
	plans := present(t, services())
	results := map[string][]sample{}
	for round := range rounds() {
		for _, m := range managers {
			p, here := plans[m.name]
			if !here {
				continue
			}
			t.Run(m.name+"/"+strconv.Itoa(round), func(t *testing.T) {
				s := measure(t, m, p)
				t.Logf("%+v", s)
				results[m.name] = append(results[m.name], s)
			})
		}
	}
	report(t, plans, results)
}

func needBench(t *testing.T) {
	t.Helper()
	if os.Getenv(benchVariable) == "" {
		t.Skip("set " + benchVariable + "=1 as root on an idle host")
	}
	if os.Geteuid() != 0 {
		t.Fatal("name spaces need root")
	}
}

// measure starts the manager with its services, lets it rest, and kills some of them.
func measure(t *testing.T, m manager, p plan) sample {
	n := services()
	g := startGuest(t, p)
	first, last := g.all(t, n)
	s := sample{Start: ms(last.Sub(g.begin))}
	time.Sleep(settle) // sleep: of a bench
	before := g.mustCost(t, m.helper)
	time.Sleep(rest) // sleep: of a bench
	after := g.mustCost(t, m.helper)
	s.Private, s.Anonymous = float64(after.alone.private), float64(after.alone.anonymous)
	s.AllMemory, s.Processes = float64(after.all.private), float64(after.all.processes)
	s.CPU, s.Switches = ms(after.all.cpu-before.all.cpu), float64(after.all.switches-before.all.switches)
	for i := range min(killsPerRound(), n) {
		victim := first[serviceName(i*n/killsPerRound())]
		killed := victim.kill(t)
		s.Restarts = append(s.Restarts, ms(g.next(t, victim.name).at.Sub(killed)))
		time.Sleep(pause) // sleep: of a bench
	}
	return s
}

// cost is what costs returns.
type cost struct{ alone, all usage }

func (g *guest) mustCost(t *testing.T, helper string) cost {
	t.Helper()
	alone, all, err := g.costs(helper)
	if err != nil {
		t.Fatal(err)
	}
	return cost{alone, all}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// buildLife compiles the service's program: static, so that its start costs the same everywhere.
func buildLife(t *testing.T) string {
	t.Helper()
	life := filepath.Join(t.TempDir(), "life")
	if out, err := exec.Command("gcc", "-static", "-Os", "-s", "-Wall", "-o", life,
		"testdata/life.c").CombinedOutput(); err != nil {
		t.Fatalf("compile the service: %v\n%s", err, out)
	}
	return life
}

// buildInit builds our PID 1 as a device has it.
func buildInit(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "resinos/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build init: %v\n%s", err, out)
	}
	return binary
}
