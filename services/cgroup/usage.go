package cgroup

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Usage is what a cgroup's processes use now and have used since the cgroup was created. A field is 0 if its controller
// is off.
type Usage struct {
	Memory, MemoryPeak int64         // bytes, page cache included
	CPU                time.Duration // user and system
	Pids               int           // processes and threads
	OOMKills           int           // processes that the kernel killed for memory.max
}

// Usage reads the cgroup's counters. The error wraps fs.ErrNotExist if there is no such cgroup.
func (t *Tree) Usage(name string) (Usage, error) {
	stat, err := os.ReadFile(t.file(name, "cpu.stat")) // needs no controller
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return Usage{
		Memory:     t.count(name, "memory.current"),
		MemoryPeak: t.count(name, "memory.peak"),
		CPU:        time.Duration(field(stat, "usage_usec")) * time.Microsecond,
		Pids:       int(t.count(name, "pids.current")),
		OOMKills:   int(field(t.text(name, "memory.events"), "oom_kill")),
	}, nil
}

// text is empty for a file that does not exist because of a missing controller or an older kernel.
func (t *Tree) text(name, file string) []byte {
	data, err := os.ReadFile(t.file(name, file))
	if err != nil {
		return nil
	}
	return data
}

func (t *Tree) count(name, file string) int64 { return parse(string(t.text(name, file))) }

// field reads one line "KEY NUMBER" of a flat keyed file.
func field(data []byte, key string) int64 {
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, key+" "); found {
			return parse(rest)
		}
	}
	return 0
}
