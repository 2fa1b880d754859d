package definition

import (
	"fmt"
	"slices"
	"strings"

	"resinos/mounts/disk"
	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// companions are keys that mean nothing unless one of others is said too. An other that is said
// to be nothing ([], 0, false) counts: an owner turns off so what a shipped file turns on.
var companions = [...]struct {
	key  string
	of   [5]string
	hint string
}{
	{"give-up-within", [5]string{"give-up-after"}, "add give-up-after = 5"},
	{"health-every", [5]string{"health-command"}, "add health-command"},
	{"health-timeout", [5]string{"health-command"}, "add health-command"},
	{"health-retries", [5]string{"health-command"}, "add health-command"},
	{"listen-mode", [5]string{"listen"}, "add listen"},
	{"listen-user", [5]string{"listen"}, "add listen"},
	{"listen-group", [5]string{"listen"}, "add listen"},
	{"listen-each", [5]string{"listen"}, "add listen"},
	{"listen-max", [5]string{"listen-each"}, "add listen-each = true"},
	{"listen-stored", [5]string{"fd-store"}, "add fd-store = 1"},
	{"timer-random-delay", [5]string{"timer-every", "timer-after-boot"}, "add timer-every or timer-after-boot"},
	{"propagation", [5]string{"mount-namespace", "packed", "private-tmp", "read-only-paths", "hidden-paths"},
		"add mount-namespace = true"},
}

// cross checks what only several keys together can say.
func (p *parser) cross(s spec.Spec) {
	if !p.has("command") {
		p.withoutCommand(s)
	}
	for _, c := range companions {
		if p.has(c.key) && !slices.ContainsFunc(c.of[:], func(name string) bool { return name != "" && p.has(name) }) {
			p.fault(c.key, "means nothing without "+c.of[0], c.hint)
		}
	}
	p.crossLife(s)
	p.crossReady(s)
	p.crossNames(s)
	p.crossListen(s)
	p.crossLimits(s)
}

// withoutCommand tells why there is nothing to run: such a file is right only on top of another.
func (p *parser) withoutCommand(s spec.Spec) {
	if s.Masked {
		p.fault("masked", "there is no service "+s.Name+" to mask",
			"remove the file, or name it as the service that is meant")
		return
	}
	p.fault("", `key "command" is missing`, `add command = ["/usr/bin/program", "argument"]`)
}

func (p *parser) crossLife(s spec.Spec) {
	if s.Type == spec.Oneshot && s.Restart == spec.Always {
		p.fault("restart", `"always" does not go with type "oneshot"`, `use restart = "on-failure" or "never"`)
	}
	if s.CgroupDelegate && s.KillMode == spec.Group {
		p.fault("kill-mode", `"group" does not go with cgroup-delegate`, `use kill-mode = "process" or leave it out`)
	}
	if s.RestartPause > s.RestartLimit {
		p.fault("restart-pause", fmt.Sprintf("%s is longer than restart-limit %s", keys.Short(s.RestartPause),
			keys.Short(s.RestartLimit)), "lower it or raise restart-limit")
	}
	if s.ReloadSignal != "" && len(s.ReloadCommand) > 0 {
		p.fault("reload-signal", "does not go with reload-command", "keep one of them")
	}
	if s.WatchdogEvery > 0 && s.Type == spec.Oneshot {
		p.fault("watchdog-every", `does not go with type "oneshot"`,
			"it counts only while a service is up: use start-timeout")
	}
	if len(s.Health.Command) > 0 && s.Type == spec.Oneshot {
		p.fault("health-command", `does not go with type "oneshot"`,
			"it is asked only while a service is up: remove it")
	}
}

func (p *parser) crossReady(s spec.Spec) {
	var probes []string
	for _, c := range []struct {
		key string
		set bool
	}{{"ready-port", s.Ready.Port != ""}, {"ready-command", len(s.Ready.Command) > 0}} {
		if !c.set {
			continue
		}
		if probes = append(probes, c.key); s.Type != spec.Simple {
			p.fault(c.key, fmt.Sprintf("does not go with type %q", s.Type), `use type = "simple"`)
		}
	}
	if len(probes) > 1 {
		p.fault(probes[1], "does not go with "+probes[0], "keep one of them")
	}
}

func (p *parser) crossNames(s spec.Spec) {
	for _, list := range []struct {
		key   string
		names []string
	}{{"needs", s.Needs}, {"wants", s.Wants}, {"after", s.After}, {"conflicts", s.Conflicts}} {
		if slices.Contains(list.names, s.Name) {
			p.fault(list.key, "the service names itself", "remove "+s.Name+" from the list")
		}
	}
	for _, name := range s.Conflicts {
		switch {
		case slices.Contains(s.Needs, name):
			p.fault("conflicts", "names "+name+", which it needs", "remove it from one of them")
		case slices.Contains(s.Wants, name):
			p.fault("conflicts", "names "+name+", which it wants", "remove it from one of them")
		}
	}
}

func (p *parser) crossListen(s spec.Spec) {
	if s.Start == spec.OnDemand && !s.Demand() {
		p.fault("start", `"demand" has nothing to start the service`,
			"add listen, listen-stored, watch-paths, timer-every or timer-after-boot")
	}
	without := s
	if without.ListenStored = false; s.ListenStored && s.Start == spec.OnDemand && !without.Demand() {
		p.fault("listen-stored", "nothing starts the service for the first time", `add start = "boot"`)
	}
	if !s.Listen.Each {
		return
	}
	for _, sock := range s.Listen.Sockets {
		if !sock.Stream() {
			p.fault("listen-each", "does not go with "+sock.String(), "only tcp: and unix: have connections")
		}
	}
	var wrong []string
	if s.Start != spec.OnDemand {
		wrong = append(wrong, `start "boot"`)
	}
	if s.Type != spec.Simple {
		wrong = append(wrong, fmt.Sprintf("type %q", s.Type))
	}
	if s.Ready.Set() {
		wrong = append(wrong, "a ready key")
	}
	if len(s.Health.Command) > 0 {
		wrong = append(wrong, "health-command")
	}
	if s.WatchdogEvery > 0 {
		wrong = append(wrong, "watchdog-every")
	}
	if len(wrong) > 0 {
		p.fault("listen-each", "does not go with "+strings.Join(wrong, " and "),
			"one process a connection has no life of its own")
	}
}

func (p *parser) crossLimits(s spec.Spec) {
	l := s.Limits
	if l.MemoryMax > 0 && s.OOMScore == -1000 {
		// The kernel finds nobody to kill in the group and lets the process fault again and again, for ever (seen on
		// Linux 6.12).
		p.fault("memory-max",
			"does not go with oom-score -1000: nobody could be killed, and it would hang at the limit",
			"use memory-high, or oom-score = -999")
	}
	steps := []struct {
		key  string
		size int64
	}{{"memory-min", l.MemoryMin}, {"memory-high", l.MemoryHigh}, {"memory-max", l.MemoryMax}}
	for i, low := range steps {
		for _, high := range steps[i+1:] {
			if low.size > 0 && high.size > 0 && low.size > high.size {
				p.fault(low.key, fmt.Sprintf("%s is more than %s %s", disk.Bytes(low.size), high.key,
					disk.Bytes(high.size)), "memory-min, memory-high, memory-max must grow")
			}
		}
	}
}
