package gauge

import (
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Process is one process of a group.
type Process struct {
	PID, Parent int
	Command     string // with its arguments; what it is called in brackets when it hides them
	CPU         time.Duration
	Memory      int64 // bytes in memory, shared ones too
}

// tick is how long the kernel's unit of processor time is (USER_HZ), on all architectures.
const tick = time.Second / 100

// Processes lists the processes in the group in the directory dir and below it, lowest pid first. proc is where procfs
// is.
func Processes(dir, proc string) []Process {
	var list []Process
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a group that has just gone has no process
		}
		for word := range strings.FieldsSeq(text(path, "cgroup.procs")) {
			if pid, err := strconv.Atoi(word); err == nil {
				list = append(list, process(filepath.Join(proc, word), pid))
			}
		}
		return nil
	})
	sort.Slice(list, func(i, j int) bool { return list[i].PID < list[j].PID })
	return list
}

func process(dir string, pid int) Process {
	p := Process{PID: pid, Command: strings.TrimSpace(strings.ReplaceAll(text(dir, "cmdline"), "\x00", " "))}
	// The name stands in parentheses and may hold some itself: proc_pid_stat(5).
	stat := text(dir, "stat")
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p
	}
	if p.Command == "" {
		p.Command = "[" + stat[open+1:end] + "]"
	}
	if fields := strings.Fields(stat[end+1:]); len(fields) > 1 {
		p.Parent, _ = strconv.Atoi(fields[1]) // a kernel that writes no number here has no parent to tell
		if len(fields) > 21 {
			user, _ := strconv.ParseInt(fields[11], 10, 64) // the same holds for these
			system, _ := strconv.ParseInt(fields[12], 10, 64)
			pages, _ := strconv.ParseInt(fields[21], 10, 64)
			p.CPU, p.Memory = time.Duration(user+system)*tick, pages*int64(os.Getpagesize())
		}
	}
	return p
}
