package servicebench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what some processes cost.
type usage struct {
	processes int
	private   int // KiB that no other process has: Private_Clean + Private_Dirty
	anonymous int // KiB of it that is no file's: the program's own pages cannot be shared here, on a device they may be
	cpu       time.Duration
	switches  int // context switches, wanted and forced
}

func (u usage) plus(v usage) usage {
	return usage{u.processes + v.processes, u.private + v.private, u.anonymous + v.anonymous, u.cpu + v.cpu,
		u.switches + v.switches}
}

// costs reads what the manager costs, alone and together with its helpers. All that is no service and no helper is the
// manager: runit is runit and runsvdir.
func (g *guest) costs(helper string) (alone, all usage, err error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", g.pid))
	if err != nil {
		return usage{}, usage{}, err
	}
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return usage{}, usage{}, err
	}
	for _, dir := range found {
		theirs, err := os.Readlink(dir + "/ns/pid")
		program, second := os.Readlink(dir + "/exe")
		if err != nil || second != nil || theirs != space || program == lifeProgram {
			continue // gone, a kernel thread, somebody else's, or a service
		}
		u := readUsage(dir)
		all = all.plus(u)
		if helper == "" || filepath.Base(program) != helper {
			alone = alone.plus(u)
		}
	}
	return alone, all, nil
}

// readUsage reads one process. A process that ends meanwhile counts as far as it could be read.
func readUsage(dir string) usage {
	u := usage{processes: 1}
	rollup := numbers(dir + "/smaps_rollup")
	u.private, u.anonymous = rollup["Private_Clean"]+rollup["Private_Dirty"], rollup["Anonymous"]
	tasks, _ := filepath.Glob(dir + "/task/*") // the pattern is a good one
	for _, task := range tasks {
		text, _ := os.ReadFile(task + "/schedstat")
		nanoseconds, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(nanoseconds, 10, 64)
		u.cpu += time.Duration(n)
		status := numbers(task + "/status")
		u.switches += status["voluntary_ctxt_switches"] + status["nonvoluntary_ctxt_switches"]
	}
	return u
}

// numbers reads the lines "name: number ..." of a file of /proc.
func numbers(path string) map[string]int {
	text, _ := os.ReadFile(path)
	found := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if words := strings.Fields(value); len(words) > 0 {
			if n, err := strconv.Atoi(words[0]); err == nil {
				found[name] = n
			}
		}
	}
	return found
}
