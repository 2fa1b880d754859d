package servicebench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"resinos/services/control"
)

// errNotYet is told when this checkout's init lacks what would be measured.
var errNotYet = errors.New("not there yet")

// ourGuest starts our init with n services that keys are added to, and returns it with their first lives.
func ourGuest(t *testing.T, n int, keys string) (*guest, map[string]life) {
	t.Helper()
	p := plan{Files: map[string]string{lifeProgram: buildLife(t)}, Texts: map[string]string{}}
	if err := planOurs(t, &p, n); err != nil {
		t.Fatal(err)
	}
	for path, text := range p.Texts {
		if strings.HasSuffix(path, ".toml") {
			p.Texts[path] = text + keys
		}
	}
	g := startGuest(t, p)
	if have, err := g.pids(); err != nil || len(have) < n { // a key that init does not know keeps the file out
		t.Logf("%d of %d services are known to init: %v", len(have), n, err)
		return g, nil
	}
	first, _ := g.all(t, n)
	return g, first
}

// call asks PID 1's control socket, through its root as the kernel shows it.
func (g *guest) call(op string, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return control.Call(ctx, fmt.Sprintf("/proc/%d/root%s", g.pid, control.SocketPath), op, nil, result)
}

// pids asks for the process of each service, and waits until PID 1 answers at all.
func (g *guest) pids() (map[string]int, error) {
	var list []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	}
	begin := time.Now()
	err := g.call("status", &list)
	for err != nil && time.Since(begin) < 10*time.Second {
		time.Sleep(100 * time.Microsecond) // sleep: of a bench
		err = g.call("status", &list)
	}
	found := map[string]int{}
	for _, s := range list {
		found[s.Name] = s.PID
	}
	return found, err
}

// restarts is the memory of PID 1 while its services are killed again and again.
type restarts struct {
	After     []float64 `json:"restarts"`
	Private   []float64 `json:"private_kib"`
	Anonymous []float64 `json:"anonymous_kib"`
	Slope     float64   `json:"slope_bytes_a_restart"` // of the private memory, without the first point
	Took      float64   `json:"took_s"`
}

// TestSlopeOfMemory kills services until init has restarted them RESINOS_RESTARTS times.
func TestSlopeOfMemory(t *testing.T) {
	needBench(t)
	// The usual pauses would stretch a million restarts over weeks.
	g, first := ourGuest(t, services(), "restart-pause = \"1ms\"\nrestart-limit = \"1ms\"\n")
	if first == nil {
		fmt.Printf("\nslope of memory: %v: service files may not say restart-pause\n", errNotYet)
		return
	}
	total := number("RESINOS_RESTARTS", 20000)
	s := restarts{}
	begin := time.Now()
	alive := make([]life, 0, len(first))
	for _, l := range first {
		alive = append(alive, l)
	}
	const points = 20
	for i := range points + 1 {
		if i > 0 {
			alive = storm(t, g, alive, total/points)
		}
		c := g.mustCost(t, "")
		s.After = append(s.After, float64(i*(total/points)))
		s.Private, s.Anonymous = append(s.Private, float64(c.alone.private)),
			append(s.Anonymous, float64(c.alone.anonymous))
	}
	s.Took = time.Since(begin).Seconds()
	s.Slope = 1024 * slope(s.After[1:], s.Private[1:])
	fmt.Printf("\nslope of memory: %d restarts after kill -9 in %.0f s, private memory %.0f -> %.0f KiB (anonymous "+
		"%.0f -> %.0f), %.3f bytes a restart\n",
		total/points*points, s.Took, s.Private[0], s.Private[points], s.Anonymous[0], s.Anonymous[points], s.Slope)
	keep(t, "slope", s)
}

// storm kills n lives, the oldest first and a few at a time, and returns those that are there when all are back: a
// child that PID 1 has forked and that is not yet its program would count as a second PID 1.
func storm(t *testing.T, g *guest, alive []life, n int) []life {
	t.Helper()
	underWay := min(8, n, len(alive))
	for done := range n {
		if done >= underWay {
			alive = append(alive, g.next(t, ""))
		}
		alive[0].kill(t)
		alive = alive[1:]
	}
	for range underWay {
		alive = append(alive, g.next(t, ""))
	}
	return alive
}

// TestReexec replaces PID 1's program below 50 services that go on running.
func TestReexec(t *testing.T) {
	needBench(t)
	g, first := ourGuest(t, 50, "")
	if first == nil {
		t.Fatal("services are missing")
	}
	var took []float64
	for range 20 {
		d, err := g.reexec()
		if errors.Is(err, errNotYet) {
			fmt.Printf("\nre-exec with 50 children: %v: init has no operation re-exec\n", err)
			return
		}
		if err != nil {
			t.Fatalf("%v; it said:\n%s", err, g.said())
		}
		took = append(took, ms(d))
		time.Sleep(10 * pause) // sleep: of a bench
	}
	s := summarize(took)
	fmt.Printf("\nre-exec with 50 children, call to the next answer, ms: median %.3g, least %.3g, most %.3g, of %d; "+
		"all pids kept\n", s.Median, s.Least, s.Most, len(took))
	keep(t, "reexec_ms", took)
}

// reexec asks init to replace itself, and returns how long it took until the new program answered. All services must
// have kept their processes.
func (g *guest) reexec() (time.Duration, error) {
	before, err := g.pids()
	if err != nil {
		return 0, err
	}
	image := g.image()
	begin := time.Now()
	if err := g.call("re-exec", nil); err != nil {
		if strings.Contains(err.Error(), "no operation") {
			return 0, errNotYet
		}
		if g.image() == image { // else the answer was lost in the change, which is as good
			return 0, err
		}
	}
	for g.image() == image {
		time.Sleep(50 * time.Microsecond) // sleep: of a bench
		if time.Since(begin) > patience {
			return 0, errors.New("re-exec: the old program still runs")
		}
	}
	after, err := g.pids()
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	for name, pid := range before {
		if pid == 0 || after[name] != pid {
			return 0, fmt.Errorf("re-exec: %s was %d and is %d", name, pid, after[name])
		}
	}
	return took, nil
}

// image is different after each execve: the kernel lays out the stack again.
func (g *guest) image() string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", g.pid)) // empty when it is gone, which pids will tell
	return string(text)
}

// TestDeaths plays the scenes of services/proc with large numbers.
func TestDeaths(t *testing.T) {
	needBench(t)
	storms, deaths := number("RESINOS_STORMS", 20), number("RESINOS_DEATHS", 20000)
	out, _ := runTest(t, "proc", []string{fmt.Sprintf("RESINOS_STORMS=%d", storms), fmt.Sprintf("RESINOS_DEATHS=%d",
		deaths)},
		"-test.v", "-test.timeout=12h", "-test.run=^(TestStorm|TestManyDeaths)$")
	lines := regexp.MustCompile(`(?m)^.*(\d+ storms of|\d+ deaths in).*$`).FindAllString(out, -1)
	if len(lines) != 2 {
		t.Fatalf("services/proc says:\n%s", out)
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	fmt.Printf("\nexits of processes: %s\n", strings.Join(lines, "; "))
	keep(t, "exits", lines)
}

// TestLog pushes lines through the log: producer's write, pipe, logd, ring.
func TestLog(t *testing.T) {
	needBench(t)
	lines := number("RESINOS_LINES", 4000000)
	var speeds, costs []float64
	for range rounds() {
		out, cpu := runTest(t, "log/logd", nil, "-test.run=^$", "-test.bench=Through",
			fmt.Sprintf("-test.benchtime=%dx", lines))
		found := regexp.MustCompile(`([0-9.e+]+) lines/s`).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("services/log/logd says:\n%s", out)
		}
		var speed float64
		if _, err := fmt.Sscan(found[1], &speed); err != nil {
			t.Fatal(err)
		}
		speeds, costs = append(speeds, speed), append(costs, float64(cpu.Nanoseconds())/float64(lines))
	}
	s, c := summarize(speeds), summarize(costs)
	fmt.Printf("\nlog: lines/s: median %.4g, least %.4g, most %.4g; CPU a line with its producer, ns: median %.0f, "+
		"least %.0f, most %.0f; of %d runs of %d lines of 100 bytes\n",
		s.Median, s.Least, s.Most, c.Median, c.Least, c.Most, rounds(), lines)
	keep(t, "log", map[string][]float64{"lines_a_second": speeds, "cpu_ns_a_line": costs})
}

// runTest builds the tests of a package of services and runs them alone, so that the compiler's CPU time does not
// count.
func runTest(t *testing.T, pkg string, env []string, args ...string) (string, time.Duration) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg)+".test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, "resinos/services/"+
		pkg).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = "../../services/" + pkg
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("services/%s: %v\n%s", pkg, err, out.String())
	}
	return out.String(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
