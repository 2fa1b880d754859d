// Package gauge reads the resource use of services and containers from their cgroup v2 groups and the processes in
// them. It changes nothing and keeps nothing between two calls. A number that the kernel does not have is -1 and no
// error: not every kernel has every controller. Read Usage first.
package gauge

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a group and all groups below it use. What is not known is -1.
type Usage struct {
	Memory   int64         `json:"memory"` // bytes
	Peak     int64         `json:"memory_peak"`
	Swap     int64         `json:"swap"` // bytes of its memory that went to swap, beside Memory
	CPU      time.Duration `json:"cpu"`  // nanoseconds since the group was made
	Tasks    int64         `json:"tasks"`
	Read     int64         `json:"read"` // bytes from disks, and to them
	Written  int64         `json:"written"`
	OOMKills int64         `json:"oom_kills"`
}

// Read reads the usage of the group in the directory dir. The error wraps fs.ErrNotExist if there is none.
func Read(dir string) (Usage, error) {
	if info, err := os.Stat(dir); err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	} else if !info.IsDir() {
		return Usage{}, fmt.Errorf("read usage: %s: %w", dir, fs.ErrInvalid)
	}
	u := Usage{
		Memory: number(dir, "memory.current"), Peak: number(dir, "memory.peak"),
		Swap: number(dir, "memory.swap.current"), Tasks: number(dir, "pids.current"),
		CPU: -1, Read: -1, Written: -1, OOMKills: field(text(dir, "memory.events"), "oom_kill"),
	}
	if usec := field(text(dir, "cpu.stat"), "usage_usec"); usec >= 0 {
		u.CPU = time.Duration(usec) * time.Microsecond
	}
	u.Read, u.Written = disks(text(dir, "io.stat"))
	return u, nil
}

// text is the content of one file of a group; a missing one is empty.
func text(dir, file string) string {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return "" // the controller is off, or the group has just gone
	}
	return string(data)
}

func number(dir, file string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text(dir, file)), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// field finds a line "name N".
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word != name {
			continue
		}
		if n, err := strconv.ParseInt(rest, 10, 64); err == nil && n >= 0 {
			return n
		}
	}
	return -1
}

// disks adds up io.stat, which has a line "8:0 rbytes=1 wbytes=2 ..." for each disk.
func disks(text string) (read, written int64) {
	if text == "" {
		return -1, -1
	}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil || n < 0:
		case key == "rbytes":
			read += n
		case key == "wbytes":
			written += n
		}
	}
	return read, written
}

// Group is one service or container.
type Group struct {
	Name      string `json:"name"`
	Container bool   `json:"container"` // then Name is APP.SERVICE
	Usage
}

// holders are the directories below the root that may hold one group for each container; see CgroupRoot in
// containers/workload.
func holders() []string { return []string{"containers", "containerd", "containerd/containers"} }

// Groups lists the services' groups below root and the containers', services first, each in name order.
func Groups(root string) ([]Group, error) {
	names, err := below(root)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var list []Group
	add := func(dir, name string, container bool) {
		if u, err := Read(filepath.Join(root, dir)); err == nil { // else it has just gone
			list = append(list, Group{Name: name, Container: container, Usage: u})
		}
	}
	for _, name := range names {
		if name != "containers" { // a holder and no service
			add(name, name, false)
		}
	}
	for _, holder := range holders() {
		inside, err := below(filepath.Join(root, holder))
		if err != nil {
			continue // most devices have one of them
		}
		for _, name := range inside {
			if strings.Contains(name, ".") { // main and the like are parts of the service itself
				add(filepath.Join(holder, name), name, true)
			}
		}
	}
	return list, nil
}

// below lists the directories in dir, in name order.
func below(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
