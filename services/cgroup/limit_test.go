package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/services/spec"
)

// limited is a tree two directories deep with the files of a group a. The controllers of the build hosts are on cgroup
// v1, so real limits lack there; a QEMU story proves them. The seam is the directory.
func limited(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	all := map[string]string{"resinos/a/cgroup.procs": "", "resinos/cgroup.subtree_control": "",
		"cgroup.subtree_control": "cpu\n"}
	for name, text := range files {
		all[name] = text
	}
	tree := fakeTree(t, all)
	return &Tree{root: tree.root + "/resinos", path: "/resinos"}
}

func content(t *testing.T, tree *Tree, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tree.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestLimitSetsAndTakesAway(t *testing.T) {
	tree := limited(t, map[string]string{
		"resinos/memory.min": "0\n", "resinos/b/memory.min": "7\n",
		"resinos/a/memory.min": "0\n", "resinos/a/memory.high": "max\n", "resinos/a/memory.max": "max\n",
		"resinos/a/memory.swap.max": "max\n", "resinos/a/pids.max": "max\n", "resinos/a/cpu.weight": "100\n",
	})
	l := spec.Limits{MemoryMin: 1 << 20, MemoryHigh: 2 << 20, MemoryMax: 3 << 20, Pids: 4, CPUWeight: 50}
	if err := tree.Limit("a", l); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"a/memory.min": "1048576", "a/memory.high": "2097152",
		"a/memory.max": "3145728", "a/memory.swap.max": "0", "a/pids.max": "4", "a/cpu.weight": "50",
		"memory.min": "1048583"} {
		if got := content(t, tree, file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	if err := tree.Limit("a", spec.Limits{}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"a/memory.min": "0", "a/memory.high": "max", "a/memory.max": "max",
		"a/memory.swap.max": "max", "a/pids.max": "max", "a/cpu.weight": "100", "memory.min": "7"} {
		if got := content(t, tree, file); got != want {
			t.Errorf("without limits %s = %q, want %q", file, got, want)
		}
	}
}

func TestLimitWritesOnlyWhatDiffers(t *testing.T) {
	tree := limited(t, map[string]string{"resinos/a/pids.max": "4\n", "resinos/a/cpu.weight": "100\n"})
	for _, l := range []spec.Limits{{Pids: 4}, {Pids: 4, CPUWeight: 100}} {
		if err := tree.Limit("a", l); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, tree, "a/pids.max") + content(t, tree, "a/cpu.weight"); got != "4\n100\n" {
		t.Errorf("rewritten: %q", got)
	}
}

// TestLimitMissingController: it is asked for from the top down, named when it does not come, and the others are set.
func TestLimitMissingController(t *testing.T) {
	tree := limited(t, map[string]string{"resinos/a/pids.max": "max\n"})
	err := tree.Limit("a", spec.Limits{MemoryMax: 5, Pids: 6, CPUWeight: 7})
	for _, want := range []string{"set memory.max to 5: this kernel's memory controller", "set cpu.weight to 7"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "memory.high") || content(t, tree, "a/pids.max") != "6" {
		t.Errorf("%v; pids.max %q", err, content(t, tree, "a/pids.max"))
	}
	top := &Tree{root: filepath.Dir(tree.root)}
	if got := content(t, top, "cgroup.subtree_control") + " " + content(t, tree,
		"cgroup.subtree_control"); got != "+cpu +cpu" {
		t.Errorf("handed down: %q", got)
	}
	if err := tree.Limit("none", spec.Limits{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Limit of a missing group: %v", err)
	}
}

func TestUsage(t *testing.T) {
	tree := limited(t, map[string]string{
		"resinos/a/cpu.stat": "usage_usec 1500\nuser_usec 1000\n", "resinos/a/memory.current": "4096\n",
		"resinos/a/memory.peak":  "8192\n",
		"resinos/a/pids.current": "3\n", "resinos/a/memory.events": "low 0\noom 2\noom_kill 1\n",
		"resinos/b/cpu.stat": "usage_usec 9\n",
	})
	want := Usage{Memory: 4096, MemoryPeak: 8192, CPU: 1500 * time.Microsecond, Pids: 3, OOMKills: 1}
	if got, err := tree.Usage("a"); got != want || err != nil {
		t.Errorf("Usage = %+v, %v, want %+v", got, err, want)
	}
	if got, err := tree.Usage("b"); got != (Usage{CPU: 9 * time.Microsecond}) || err != nil {
		t.Errorf("Usage without controllers = %+v, %v", got, err)
	}
	if _, err := tree.Usage("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Usage of a missing group: %v", err)
	}
}

// TestRealLimitless: on a host whose controllers are elsewhere, a limit is an error that says so and no limit is none.
func TestRealLimitless(t *testing.T) {
	tree := realTree(t)
	cmd := sleeper(t, tree, "a")
	if err := tree.Limit("a", spec.Limits{}); err != nil {
		t.Errorf("no limits: %v", err)
	}
	if err := tree.Limit("a", spec.Limits{Pids: 10}); err != nil &&
		!strings.Contains(err.Error(), "no pids controller") {
		t.Errorf("Limit = %v", err)
	} else if err == nil && strings.TrimSpace(content(t, tree, "a/pids.max")) != "10" {
		t.Errorf("pids.max = %q", content(t, tree, "a/pids.max"))
	}
	if _, err := tree.Usage("a"); err != nil {
		t.Error(err)
	}
	tree.KillAll()
	cmd.Wait()
}
