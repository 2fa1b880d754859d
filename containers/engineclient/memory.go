package engineclient

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupMount is where cgroups are mounted; CgroupRoot is a path below it.
const cgroupMount = "/sys/fs/cgroup"

// kills returns how many processes of a container the kernel has killed because memory ran out, since the last start of
// the container, which creates its cgroup. It is 0 if the kernel does not count them.
func (c *Containerd) kills(id string) int {
	f, err := os.Open(filepath.Join(cgroupMount, c.CgroupRoot, id, "memory.events"))
	if err != nil {
		return 0 // the task has no cgroup any more, or the kernel has no memory controller
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return 0
	}
	return parseKills(string(text))
}

// parseKills reads memory.events of cgroup v2: the line "oom_kill N" counts the killed processes of the cgroup itself,
// whichever cgroup above it reached its limit.
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
