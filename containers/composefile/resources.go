package composefile

import (
	"cmp"
	"strings"

	"resinos/containers/app"
)

// resources are what the container may use. What deploy says counts where the service's own key is not there:
// compose-go has refused a file that gives both with different values.
func (c *converter) resources() {
	s := c.s
	r := app.Resources{
		Memory: int64(s.MemLimit), MemoryReservation: int64(s.MemReservation), MemorySwap: int64(s.MemSwapLimit),
		CPUs: float64(s.CPUS), CPUShares: s.CPUShares, CPUQuota: s.CPUQuota, CPUPeriod: s.CPUPeriod,
		CPUSet: s.CPUSet, Pids: s.PidsLimit, ShmSize: int64(s.ShmSize),
	}
	if s.BlkioConfig != nil {
		r.BlkioWeight = s.BlkioConfig.Weight
	}
	if s.Deploy != nil {
		if limits := s.Deploy.Resources.Limits; limits != nil {
			r.Memory = cmp.Or(r.Memory, int64(limits.MemoryBytes))
			r.CPUs = cmp.Or(r.CPUs, float64(limits.NanoCPUs.Value()))
			r.Pids = cmp.Or(r.Pids, limits.Pids)
		}
		if kept := s.Deploy.Resources.Reservations; kept != nil {
			r.MemoryReservation = cmp.Or(r.MemoryReservation, int64(kept.MemoryBytes))
		}
	}
	c.c.Resources = r
	c.c.OOMScoreAdj = int(s.OomScoreAdj)
	for _, bound := range []struct {
		key      string
		value    int64
		low, top int64 // 0 stands for nothing said
	}{
		{"mem_limit", r.Memory, 6 << 20, 1 << 50},
		{"memswap_limit", r.MemorySwap, -1, 1 << 50},
		{"cpu_shares", r.CPUShares, 2, 262144},
		{"cpu_quota", r.CPUQuota, 1000, 1 << 40},
		{"cpu_period", r.CPUPeriod, 1000, 1000000},
		{"pids_limit", r.Pids, -1, 1 << 22},
		{"blkio_config.weight", int64(r.BlkioWeight), 10, 1000},
		{"oom_score_adj", s.OomScoreAdj, -1000, 1000},
	} {
		if bound.value != 0 && (bound.value < bound.low || bound.value > bound.top) {
			c.bad(bound.key, "%d is not between %d and %d", bound.value, bound.low, bound.top)
		}
	}
	if r.CPUs < 0 || r.CPUs > 0 && r.CPUs < 0.01 {
		c.bad("cpus", "%v is less than 0.01", r.CPUs)
	}
	if r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		c.bad("memswap_limit", "%d is memory and swap together, and less than mem_limit %d", r.MemorySwap, r.Memory)
	}
	if strings.Trim(r.CPUSet, "0123456789,-") != "" {
		c.bad("cpuset", "%q is no list of processors: write 0-2,4", r.CPUSet)
	}
}
