package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/services/spec"
)

// FuzzLimit: whatever the files of a group hold, a limit that was set is there afterwards, and setting it again writes
// nothing.
func FuzzLimit(f *testing.F) {
	f.Add("max\n", "default 100\n8:0 50\n", int64(3<<20), 4, 50)
	f.Add("4\n", "", int64(0), 0, 0)
	f.Add("", "default 7", int64(1), 1, 7)
	tree := fakeTree(f, map[string]string{"resinos/a/cgroup.procs": "", "resinos/cgroup.subtree_control": "",
		"cgroup.subtree_control": "cpu\n"})
	tree.root += "/resinos"
	f.Fuzz(func(t *testing.T, plain, weight string, memory int64, pids, cpu int) {
		for file, text := range map[string]string{"memory.min": plain, "memory.high": plain, "memory.max": plain,
			"memory.swap.max": plain, "pids.max": plain, "cpu.weight": weight} {
			if err := os.WriteFile(tree.file("a", file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(tree.file(".", "memory.min"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		l := spec.Limits{MemoryMin: memory, MemoryHigh: memory, MemoryMax: memory, Pids: pids, CPUWeight: cpu}
		if err := tree.Limit("a", l); err != nil {
			t.Fatalf("limit %+v over %q and %q: %v", l, plain, weight, err)
		}
		for _, k := range knobs {
			want := k.none
			if value := k.value(l); value != "" {
				want = value
			}
			got, err := os.ReadFile(tree.file("a", k.file))
			if err != nil || strings.TrimPrefix(firstLine(got), "default ") != want {
				t.Errorf("limit %+v over %q and %q: %s is %q (%v), want %s", l, plain, weight, k.file, got, err, want)
			}
		}
	})
}

// FuzzUsage: whatever the counters' files hold, no count is negative. A time that is longer than 292 years is not
// looked at.
func FuzzUsage(f *testing.F) {
	f.Add("usage_usec 1500\nuser_usec 1000\n", "4096\n", "low 0\noom 2\noom_kill 1\n")
	f.Add("usage_usec\n", "max\n", "oom_kill  1")
	f.Add("usage_usec -1\n", "-1\n", "oom_kill 99999999999999999999\n")
	tree := fakeTree(f, map[string]string{"a/cgroup.procs": ""})
	f.Fuzz(func(t *testing.T, cpu, memory, events string) {
		for file, text := range map[string]string{"cpu.stat": cpu, "memory.current": memory, "memory.peak": memory,
			"pids.current": memory, "memory.events": events} {
			if err := os.WriteFile(filepath.Join(tree.root, "a", file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		u, err := tree.Usage("a")
		if err != nil || u.CPU < 0 && len(cpu) < len("usage_usec ")+15 || u.Memory < 0 || u.MemoryPeak < 0 ||
			u.Pids < 0 || u.OOMKills < 0 {
			t.Errorf("usage of %q, %q, %q = %+v, %v", cpu, memory, events, u, err)
		}
	})
}
