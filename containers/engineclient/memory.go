package engineclient

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupMount is where the control groups are; CgroupRoot is a path below it.
const cgroupMount = "/sys/fs/cgroup"

// kills is how many processes of a container the kernel has ended for want of memory since its control group was
// made, which is with each start. It is 0 where nobody counts them.
func (c *Containerd) kills(id string) int {
	f, err := os.Open(filepath.Join(cgroupMount, c.CgroupRoot, id, "memory.events"))
	if err != nil {
		return 0 // the task has no group any more, or the kernel no memory controller
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return 0
	}
	return parseKills(string(text))
}

// parseKills reads memory.events of control groups version 2: a line "oom_kill N" counts the group's own processes,
// whichever group above it was short of memory.
func parseKills(events string) int {
	for line := range strings.Lines(events) {
		if number, found := strings.CutPrefix(line, "oom_kill "); found {
			n, err := strconv.Atoi(strings.TrimSpace(number))
			if err != nil || n < 0 {
				return 0
			}
			return n
		}
	}
	return 0
}
