// Package keys owns the vocabulary of service files: the table of all keys, and for each key the form of its value and
// the fault of a wrong one. Package definition checks keys that depend on each other. Read All first.
package keys

import (
	"strings"

	"resinos/services/spec"
	"resinos/services/spec/precondition"
	"resinos/services/spell"
)

// Key is one line of the table of what a service file may say.
type Key struct {
	Name string
	Set  func(*spec.Spec, any) []Fault // Text, Hint and, inside a table, Key; the parser adds the place
}

// All lists every key of a service file. A setter replaces the value of a lower layer; only the two tables are
// replaced name by name.
var All = [...]Key{
	{"description", func(s *spec.Spec, v any) []Fault { return text(v, &s.Description) }},
	{"masked", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.Masked) }},
	{"variants", func(s *spec.Spec, v any) []Fault { return variants(v, &s.Variants) }},

	{"command", func(s *spec.Spec, v any) []Fault { return command(v, &s.Command, false) }},
	{"environment", func(s *spec.Spec, v any) []Fault { return environment(v, &s.Environment) }},
	{"working-directory", func(s *spec.Spec, v any) []Fault { return directory(v, &s.WorkingDirectory) }},
	{"user", func(s *spec.Spec, v any) []Fault { return account(v, &s.User) }},
	{"group", func(s *spec.Spec, v any) []Fault { return account(v, &s.Group) }},
	{"supplementary-groups", func(s *spec.Spec, v any) []Fault { return accounts(v, &s.SupplementaryGroups) }},
	{"log", func(s *spec.Spec, v any) []Fault { return choice(v, &s.Log, spec.Ring, spec.Console) }},

	{"start", func(s *spec.Spec, v any) []Fault { return choice(v, &s.Start, spec.AtBoot, spec.OnDemand) }},
	{"type", func(s *spec.Spec, v any) []Fault { return choice(v, &s.Type, spec.Simple, spec.Notify, spec.Oneshot) }},
	{"ready-port", func(s *spec.Spec, v any) []Fault { return readyPort(v, &s.Ready.Port) }},
	{"ready-command", func(s *spec.Spec, v any) []Fault { return command(v, &s.Ready.Command, true) }},
	{"needs", func(s *spec.Spec, v any) []Fault { return names(v, &s.Needs) }},
	{"wants", func(s *spec.Spec, v any) []Fault { return names(v, &s.Wants) }},
	{"after", func(s *spec.Spec, v any) []Fault { return names(v, &s.After) }},
	{"conflicts", func(s *spec.Spec, v any) []Fault { return names(v, &s.Conflicts) }},
	{"condition-path", func(s *spec.Spec, v any) []Fault { return conditions(v, s, precondition.Path) }},
	{"condition-config", func(s *spec.Spec, v any) []Fault { return conditions(v, s, precondition.Config) }},
	{"condition-cmdline", func(s *spec.Spec, v any) []Fault { return conditions(v, s, precondition.Cmdline) }},
	{"condition-board", func(s *spec.Spec, v any) []Fault { return conditions(v, s, precondition.Board) }},
	{"condition-device", func(s *spec.Spec, v any) []Fault { return conditions(v, s, precondition.Device) }},

	{"restart", func(s *spec.Spec, v any) []Fault {
		return choice(v, &s.Restart, spec.Always, spec.OnFailure, spec.Never)
	}},
	{"restart-pause", func(s *spec.Spec, v any) []Fault { return duration(v, &s.RestartPause, shortest, day) }},
	{"restart-limit", func(s *spec.Spec, v any) []Fault { return duration(v, &s.RestartLimit, shortest, day) }},
	{"give-up-after", func(s *spec.Spec, v any) []Fault { return number(v, &s.GiveUp.Lives, 0, 10000) }},
	{"give-up-within", func(s *spec.Spec, v any) []Fault { return duration(v, &s.GiveUp.Within, second, day) }},

	{"start-timeout", func(s *spec.Spec, v any) []Fault { return duration(v, &s.StartTimeout, 0, day) }},
	{"stop-timeout", func(s *spec.Spec, v any) []Fault { return duration(v, &s.StopTimeout, 0, day) }},
	{"stop-signal", func(s *spec.Spec, v any) []Fault { return signal(v, &s.StopSignal) }},
	{"kill-mode", func(s *spec.Spec, v any) []Fault { return choice(v, &s.KillMode, spec.Group, spec.Process) }},
	{"reload-signal", func(s *spec.Spec, v any) []Fault { return signal(v, &s.ReloadSignal) }},
	{"reload-command", func(s *spec.Spec, v any) []Fault { return command(v, &s.ReloadCommand, true) }},
	{"watchdog-every", func(s *spec.Spec, v any) []Fault { return duration(v, &s.WatchdogEvery, 0, day) }},
	{"health-command", func(s *spec.Spec, v any) []Fault { return command(v, &s.Health.Command, true) }},
	{"health-every", func(s *spec.Spec, v any) []Fault { return duration(v, &s.Health.Every, second, day) }},
	{"health-timeout", func(s *spec.Spec, v any) []Fault { return duration(v, &s.Health.Timeout, shortest, day) }},
	{"health-retries", func(s *spec.Spec, v any) []Fault { return number(v, &s.Health.Retries, 1, 1000) }},

	{"listen", func(s *spec.Spec, v any) []Fault { return sockets(v, &s.Listen.Sockets) }},
	{"listen-mode", func(s *spec.Spec, v any) []Fault { return mode(v, &s.Listen.Mode) }},
	{"listen-user", func(s *spec.Spec, v any) []Fault { return account(v, &s.Listen.User) }},
	{"listen-group", func(s *spec.Spec, v any) []Fault { return account(v, &s.Listen.Group) }},
	{"listen-each", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.Listen.Each) }},
	{"listen-max", func(s *spec.Spec, v any) []Fault { return number(v, &s.Listen.Max, 1, 4096) }},
	{"timer-after-boot", func(s *spec.Spec, v any) []Fault { return duration(v, &s.Timer.AfterBoot, 0, year) }},
	{"timer-every", func(s *spec.Spec, v any) []Fault { return period(v, &s.Timer.Every) }},
	{"timer-random-delay", func(s *spec.Spec, v any) []Fault { return duration(v, &s.Timer.Spread, 0, year) }},
	{"watch-paths", func(s *spec.Spec, v any) []Fault { return paths(v, &s.WatchPaths, false) }},
	{"fd-store", func(s *spec.Spec, v any) []Fault { return number(v, &s.FDStore, 0, 1024) }},
	{"listen-stored", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.ListenStored) }},

	{"oom-score", func(s *spec.Spec, v any) []Fault { return number(v, &s.OOMScore, -1000, 1000) }},
	{"memory-min", func(s *spec.Spec, v any) []Fault { return size(v, &s.Limits.MemoryMin) }},
	{"memory-high", func(s *spec.Spec, v any) []Fault { return size(v, &s.Limits.MemoryHigh) }},
	{"memory-max", func(s *spec.Spec, v any) []Fault { return size(v, &s.Limits.MemoryMax) }},
	{"pids-max", func(s *spec.Spec, v any) []Fault { return number(v, &s.Limits.Pids, 0, 1<<22) }},
	{"cpu-weight", func(s *spec.Spec, v any) []Fault { return number(v, &s.Limits.CPUWeight, 0, 10000) }},
	{"boot-cpu-weight", func(s *spec.Spec, v any) []Fault { return number(v, &s.Limits.BootCPUWeight, 0, 10000) }},
	{"cgroup-delegate", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.CgroupDelegate) }},

	{"packed", func(s *spec.Spec, v any) []Fault { return packed(v, &s.Confinement.Packed) }},
	{"private-tmp", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.Confinement.PrivateTmp) }},
	{"read-only-paths", func(s *spec.Spec, v any) []Fault { return paths(v, &s.Confinement.ReadOnlyPaths, true) }},
	{"hidden-paths", func(s *spec.Spec, v any) []Fault { return paths(v, &s.Confinement.HiddenPaths, true) }},
	{"mount-namespace", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.Confinement.MountNamespace) }},
	{"propagation", func(s *spec.Spec, v any) []Fault {
		return choice(v, &s.Confinement.Propagation, spec.Slave, spec.Private, spec.Shared)
	}},
	{"capabilities", func(s *spec.Spec, v any) []Fault { return capabilities(v, &s.Confinement) }},
	{"no-new-privileges", func(s *spec.Spec, v any) []Fault { return boolean(v, &s.Confinement.NoNewPrivileges) }},
	{"seccomp", func(s *spec.Spec, v any) []Fault { return profile(v, &s.Confinement.Seccomp) }},
	{"nice", func(s *spec.Spec, v any) []Fault { return number(v, &s.Confinement.Nice, -20, 19) }},
	{"rlimits", func(s *spec.Spec, v any) []Fault { return rlimits(v, &s.Confinement.Rlimits) }},
}

// Find returns the place of a key in the table, or -1.
func Find(name string) int {
	for i := range All {
		if All[i].Name == name {
			return i
		}
	}
	return -1
}

// Suggest names the key that was meant.
func Suggest(name string) string {
	best, distance := foreign(name), 3
	if best != "" {
		return "write " + best
	}
	var related []string
	first, _, _ := strings.Cut(name, "-")
	for i := range All {
		if d := spell.Distance(name, All[i].Name); d < distance {
			best, distance = All[i].Name, d
		}
		if strings.HasPrefix(All[i].Name, first+"-") {
			related = append(related, All[i].Name)
		}
	}
	switch {
	case best != "":
		return "did you mean " + best + "?"
	case len(related) > 0:
		return "known are " + strings.Join(related, ", ")
	}
	return "docs/services.md lists the keys"
}

// foreign translates what other service managers say.
func foreign(name string) string {
	switch strings.ToLower(name) {
	case "unit", "service", "install", "socket", "timer":
		return "the keys at the top, in no table"
	case "exec", "exec-start", "execstart", "entrypoint", "run":
		return "command"
	case "env", "environment-file":
		return "an [environment] table"
	case "cwd", "workdir", "workingdirectory":
		return "working-directory"
	case "requires", "depends", "depends-on", "depends_on", "binds-to":
		return "needs"
	case "before":
		return "after in the other service's file"
	case "enabled", "disabled":
		return "masked = true to keep it from ever starting"
	case "watchdog", "watchdog-sec":
		return "watchdog-every"
	case "restart-sec":
		return "restart-pause"
	case "nofile", "limit-nofile", "rlimit", "ulimits":
		return "an [rlimits] table"
	}
	return ""
}
