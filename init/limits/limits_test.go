package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// boards have the memory and the counts that kernels made of it.
var boards = []struct {
	name          string
	memory, tasks int64
}{
	{"128 MB", 99_000 << 10, 770},
	{"512 MB", 485_000 << 10, 3268},
	{"1 GB", 970_000 << 10, 7500},
	{"4 GB", 3_900_000 << 10, 31_000},
	{"64 GB", 65_000_000 << 10, 515_000},
}

func TestPlan(t *testing.T) {
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, board := range boards {
		have := map[string]int64{"MemTotal": board.memory, "kernel.threads-max": board.tasks, "kernel.pid_max": 32768}
		fmt.Fprintf(&b, "%s\n", board.name)
		steps := Plan(rows, have)
		for _, s := range steps {
			fmt.Fprintf(&b, "\t%v\n", s)
		}
		if len(steps) != len(rows) {
			t.Errorf("%s: %d steps of %d rows", board.name, len(steps), len(rows))
		}
		for i, s := range steps {
			total := have[rows[i].Of[len(rows[i].Of)-1]]
			if s.Value < min(total, have[rows[i].Of[0]])/5 || s.Value >= min(total, have[rows[i].Of[0]]) {
				t.Errorf("%s: %v of %d leaves too little for one side", board.name, s, total)
			}
		}
	}
	testenv.Golden(t, "plan.golden", b.String())
}

// TestSystemsPart: what is left to the system is no less than the table says, unless containers would get next to
// nothing.
func TestSystemsPart(t *testing.T) {
	for _, c := range []struct {
		row         Limit
		total, want int64
	}{
		{Limit{Share: 75, Least: 384, Most: 8192}, 3200, 2400},
		{Limit{Share: 75, Least: 384}, 1000, 616},
		{Limit{Share: 75, Least: 384}, 500, 250}, // least is more than half
		{Limit{Share: 75, Most: 8192}, 500_000, 491_808},
		{Limit{Share: 25}, 1000, 250},
	} {
		if got := c.row.of(c.total); got != c.want {
			t.Errorf("%+v of %d = %d, want %d", c.row, c.total, got, c.want)
		}
	}
}

func TestPlanOfUnknown(t *testing.T) {
	rows := []Limit{{File: "pids.max", Of: []string{"a", "b"}, Share: 50}, {File: "memory.max", Of: []string{"c"},
		Share: 50}}
	if got := fmt.Sprint(Plan(rows, map[string]int64{"b": 100})); got != "[pids.max = 50]" {
		t.Errorf("Plan = %s", got)
	}
}

func TestParseFaults(t *testing.T) {
	_, err := parse("x", "[[limit]]\nfile = \"../x\"\n[[limit]]\nfile = \"a\"\n[[limit]]\nfile = \"b\"\nof = "+
		"[\"c\"]\nshare = 100\nwhat = 1\n")
	for _, want := range []string{"unknown key limit.what", `limit 1: "../x"`, "a: say what", "b: share is 1 to 99"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	if _, err := parse("x", "[[limit"); err == nil {
		t.Error("no error for half a table")
	}
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestObserve(t *testing.T) {
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	proc := t.TempDir()
	write(t, proc, map[string]string{"meminfo": "MemTotal:         497000 kB\nMemFree: 1 kB\n",
		"sys/kernel/threads-max": "3268\n", "sys/kernel/pid_max": "many\n"})
	have, err := Observe(proc, rows)
	if have["MemTotal"] != 497000<<10 || have["kernel.threads-max"] != 3268 || len(have) != 2 {
		t.Errorf("Observe = %v", have)
	}
	if err == nil || !strings.Contains(err.Error(), "kernel.pid_max") || strings.Contains(err.Error(), "MemTotal") {
		t.Errorf("error = %v", err)
	}
	if have, err := Observe("/proc", rows); err != nil || len(have) != 3 {
		t.Errorf("of this kernel: %v, %v", have, err)
	}
}

// TestApply: a second time changes nothing, and one missing limit does not keep the others from holding.
func TestApply(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "containers")
	write(t, dir, map[string]string{"pids.max": "max\n"})
	steps := []Step{{"memory.max", 5}, {"memory.swap.max", 6}, {"pids.max", 7}}
	for range 2 {
		err := Apply(dir, steps)
		if err == nil || !strings.Contains(err.Error(), "memory.max = 5") || strings.Contains(err.Error(), "swap") {
			t.Errorf("Apply = %v", err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "pids.max")); string(data) != "7" || err != nil {
			t.Errorf("pids.max = %q, %v", data, err)
		}
	}
	if files, err := os.ReadDir(dir); len(files) != 1 || err != nil {
		t.Errorf("Apply made files: %v, %v", files, err)
	}
	if err := Apply(filepath.Join(dir, "none", "containers"), steps); err == nil {
		t.Error("no error without a parent")
	}
}
