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

// knob is one file of a cgroup that contains a limit.
type knob struct {
	file       string
	controller string
	none       string                   // its content without a limit
	value      func(spec.Limits) string // its wanted content; empty: no limit
	optional   bool                     // some kernels are built without it
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

// noSwap makes memory-max cover swap too: swap is compressed RAM here, and nobody counts that RAM for the service.
func noSwap(l spec.Limits) string {
	if l.MemoryMax == 0 {
		return ""
	}
	return "0"
}

// Limit sets exactly the limits in l: a zero field removes an earlier limit. The cgroup must exist. The error names the
// limits that could not be set; the others are in force.
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

// turn sets one knob. A controller is enabled for the first limit that needs it, so that a device without limits does
// not pay for it; without the controller there is no limit to remove either.
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

// enable enables a controller for the services' cgroups, from the top of the file system down.
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
			return fmt.Errorf("no %s controller in %s: the kernel lacks it, or it is taken by cgroup v1", controller,
				dir)
		} else if err != nil {
			return fmt.Errorf("enable %s controller in %s: %w", controller, dir, err)
		}
	}
	return nil
}

// protect gives the root of the services the sum of their memory.min: the kernel protects no more memory in a cgroup
// than in its parent.
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

// write never creates a file: cgroup file systems answer that with a misleading "permission denied".
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// parse reads a number; "max" and garbage are 0.
func parse(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}
