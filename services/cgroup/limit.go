package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
)

// knob is one file of a group that holds a limit.
type knob struct {
	file       string
	controller string
	none       string                   // what it holds when there is no limit
	value      func(spec.Limits) string // what it shall hold; empty is none
	optional   bool                     // kernels are built without it, and do without
}

// knobs are the limits of a service (Documentation/admin-guide/cgroup-v2.rst).
var knobs = [...]knob{
	{"memory.min", "memory", "0", func(l spec.Limits) string { return count(l.MemoryMin) }, false},
	{"memory.high", "memory", "max", func(l spec.Limits) string { return count(l.MemoryHigh) }, false},
	{"memory.max", "memory", "max", func(l spec.Limits) string { return count(l.MemoryMax) }, false},
	{"memory.swap.max", "memory", "max", noSwap, true},
	{"pids.max", "pids", "max", func(l spec.Limits) string { return count(int64(l.Pids)) }, false},
	{"cpu.weight", "cpu", "100", func(l spec.Limits) string { return count(int64(l.CPUWeight)) }, false},
}

func count(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// noSwap keeps memory-max a promise: swap is compressed RAM here, and nobody counts that for the service.
func noSwap(l spec.Limits) string {
	if l.MemoryMax == 0 {
		return ""
	}
	return "0"
}

// Limit has the group enforce l and nothing else: a zero field takes an earlier limit away. The group must exist. What cannot
// be set is named in the error, and the other limits hold all the same.
func (t *Tree) Limit(name string, l spec.Limits) error {
	if _, err := os.Stat(filepath.Join(t.root, name)); err != nil {
		return fmt.Errorf("limit cgroup: %w", err)
	}
	var all []error
	for _, k := range knobs {
		if err := t.turn(name, k, k.value(l)); err != nil {
			all = append(all, fmt.Errorf("limit cgroup %s: %w", name, err))
		}
	}
	return errors.Join(all...)
}

// turn sets one knob. A controller is switched on for the first limit that needs it, so that a device without limits pays for
// none; without the controller there is no limit to take away either.
func (t *Tree) turn(name string, k knob, value string) error {
	want := cmp.Or(value, k.none)
	file := t.file(name, k.file)
	data, err := read(file)
	if gone(err) && (value == "" || k.optional) {
		return nil
	}
	if gone(err) {
		if err := t.enable(k.controller); err != nil {
			return fmt.Errorf("set %s to %s: %w", k.file, want, err)
		}
		data, err = read(file)
	}
	if gone(err) {
		return fmt.Errorf("set %s to %s: this kernel's %s controller has no such limit", k.file, want, k.controller)
	}
	if err != nil {
		return err
	}
	if firstLine(data) == want {
		return nil
	}
	if err := write(file, want); err != nil {
		return fmt.Errorf("set %s to %s: %w", k.file, want, err)
	}
	if k.file == "memory.min" {
		return t.protect()
	}
	return nil
}

func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// enable hands a controller down to the services' groups, from the top of the file system.
func (t *Tree) enable(controller string) error {
	top := strings.TrimSuffix(t.root, t.path)
	dirs := []string{t.root}
	for dir := t.root; dir != top && dir != "/"; {
		dir = filepath.Dir(dir)
		dirs = append(dirs, dir)
	}
	for _, dir := range slices.Backward(dirs) {
		file := filepath.Join(dir, "cgroup.subtree_control")
		data, err := os.ReadFile(file)
		if err == nil && slices.Contains(strings.Fields(string(data)), controller) {
			continue
		}
		if err := write(file, "+"+controller); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("no %s controller in %s: the kernel lacks it, or it is taken by cgroup v1", controller, dir)
		} else if err != nil {
			return fmt.Errorf("enable %s controller in %s: %w", controller, dir, err)
		}
	}
	return nil
}

// protect gives the services' root the sum of their memory.min: the kernel protects in a group no more than in the one above.
func (t *Tree) protect() error {
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return fmt.Errorf("sum memory.min: %w", err)
	}
	var sum int64
	for _, e := range entries {
		if data, err := os.ReadFile(t.file(e.Name(), "memory.min")); err == nil && e.IsDir() {
			sum += parse(firstLine(data))
		}
	}
	if err := write(t.file(".", "memory.min"), strconv.FormatInt(sum, 10)); err != nil {
		return fmt.Errorf("protect all memory.min: %w", err)
	}
	return nil
}

// write never makes a file: cgroup file systems answer the attempt with a puzzling "permission denied".
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// parse reads a count; "max" and nonsense are 0.
func parse(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}
