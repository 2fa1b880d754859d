package boot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"resinos/init/limits"
)

// lookAtShares reads how much there is of everything that the system shares with containers.
func (s *System) lookAtShares() error {
	rows, err := limits.Table()
	if err != nil {
		return err
	}
	have, err := limits.Observe("/proc", rows)
	s.Shares = limits.Plan(rows, have)
	return err
}

// shareDeeds reserve the system's part of what it shares with containers. They come before the engine creates the first
// container, and cost three writes.
func shareDeeds(in Inputs) []deed {
	lines := printed(in.Shares)
	for i, line := range lines {
		lines[i] = limits.Group + "/" + line
	}
	return []deed{
		{[]string{"lift the limits for each user on processes and on pending signals: " +
			"containers share their users with the system"},
			func(*System) error { return liftUserLimits() }},
		{lines, func(*System) error { return limits.Apply(limits.Group, in.Shares) }},
	}
}

// liftUserLimits removes, from PID 1 and so from all processes that it starts, the limits that the kernel counts by
// user and not by process. A container has the same users as the system. Its processes would count against a service
// that runs as one of these users, which then could not fork; its pending signals would count against root, who then
// could create no timer. Cgroups limit both: tasks, and the memory of pending signals.
func liftUserLimits() error {
	var faults []error
	for _, l := range []struct {
		name string
		of   int
	}{{"processes", unix.RLIMIT_NPROC}, {"pending signals", unix.RLIMIT_SIGPENDING}} {
		if err := unix.Setrlimit(l.of, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
			faults = append(faults, fmt.Errorf("lift the limit of %s: %w", l.name, err))
		}
	}
	return errors.Join(faults...)
}
