package confine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
)

// rlimits lists the limits of setrlimit(2) with the names in a service file: lower case, without RLIMIT_.
var rlimits = [...]string{
	unix.RLIMIT_AS:         "as",
	unix.RLIMIT_CORE:       "core",
	unix.RLIMIT_CPU:        "cpu",
	unix.RLIMIT_DATA:       "data",
	unix.RLIMIT_FSIZE:      "fsize",
	unix.RLIMIT_LOCKS:      "locks",
	unix.RLIMIT_MEMLOCK:    "memlock",
	unix.RLIMIT_MSGQUEUE:   "msgqueue",
	unix.RLIMIT_NICE:       "nice",
	unix.RLIMIT_NOFILE:     "nofile",
	unix.RLIMIT_NPROC:      "nproc",
	unix.RLIMIT_RSS:        "rss",
	unix.RLIMIT_RTPRIO:     "rtprio",
	unix.RLIMIT_RTTIME:     "rttime",
	unix.RLIMIT_SIGPENDING: "sigpending",
	unix.RLIMIT_STACK:      "stack",
}

// limit sets the resource limits.
func (s *self) limit() error {
	for _, name := range slices.Sorted(maps.Keys(s.Confinement.Rlimits)) {
		if err := setRlimit(name, s.Confinement.Rlimits[name]); err != nil {
			return err
		}
	}
	return nil
}

func setRlimit(name string, limit spec.Rlimit) error {
	resource := slices.Index(rlimits[:], strings.ToLower(name))
	if resource < 0 {
		return fmt.Errorf("set rlimit %s: no such limit; there are: %s", name, strings.Join(rlimits[:], " "))
	}
	// The call of the syscall package, because its Exec would otherwise restore an older descriptor limit.
	err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit.Soft, Max: limit.Hard})
	if err == nil {
		return nil
	}
	hint := ""
	if errors.Is(err, unix.EPERM) {
		hint = ": above the hard limit of this system"
	}
	return fmt.Errorf("set rlimit %s to %d and %d: %w%s", name, limit.Soft, limit.Hard, err, hint)
}

// nice sets the priority of this thread, which becomes the program.
func (s *self) nice() error {
	if s.Confinement.Nice == 0 {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, s.Confinement.Nice); err != nil {
		return fmt.Errorf("set nice %d: %w", s.Confinement.Nice, err)
	}
	return nil
}
