package definition

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/mounts/disk"
	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// Render writes the service file that says all of s at once: what holds when its files and the
// defaults are taken together. Parse of the result gives s again, but for Files. Keys that mean
// nothing for this service are left out.
func Render(s spec.Spec) string {
	var w writer
	for _, file := range s.Files {
		w.b.WriteString("# from " + strings.Map(printable, file) + "\n")
	}
	w.text("description", s.Description)
	w.flag("masked", s.Masked)
	w.list("variants", s.Variants)
	w.program(s)
	w.order(s)
	w.life(s)
	w.demand(s)
	w.limits(s)
	w.confinement(s.Confinement)
	w.tables(s)
	return w.b.String()
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// writer writes keys; each of its methods leaves out the zero value.
type writer struct{ b strings.Builder }

func (w *writer) key(name, value string) { w.b.WriteString(name + " = " + value + "\n") }

func (w *writer) text(name, value string) {
	if value != "" {
		w.key(name, quote(value))
	}
}

func (w *writer) flag(name string, value bool) {
	if value {
		w.key(name, "true")
	}
}

func (w *writer) number(name string, value int) {
	if value != 0 {
		w.key(name, strconv.Itoa(value))
	}
}

func (w *writer) size(name string, value int64) {
	if value != 0 {
		w.key(name, quote(disk.Bytes(value).String()))
	}
}

func (w *writer) time(name string, value time.Duration) {
	if value != 0 {
		w.key(name, quote(keys.Short(value)))
	}
}

func (w *writer) list(name string, values []string) {
	if len(values) > 0 {
		w.key(name, array(values))
	}
}

func array(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a basic string (TOML 1.0): all but quotes, backslashes and controls as it is.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (w *writer) program(s spec.Spec) {
	w.list("command", s.Command)
	w.text("working-directory", s.WorkingDirectory)
	w.text("user", s.User)
	w.text("group", s.Group)
	w.list("supplementary-groups", s.SupplementaryGroups)
	w.text("log", string(s.Log))
}

func (w *writer) order(s spec.Spec) {
	w.text("start", string(s.Start))
	w.text("type", string(s.Type))
	w.text("ready-port", s.Ready.Port)
	w.list("ready-command", s.Ready.Command)
	w.list("needs", s.Needs)
	w.list("wants", s.Wants)
	w.list("after", s.After)
	w.list("conflicts", s.Conflicts)
	for at := 0; at < len(s.Conditions); {
		of := s.Conditions[at].Kind
		var values []string
		for ; at < len(s.Conditions) && s.Conditions[at].Kind == of; at++ {
			values = append(values, s.Conditions[at].Said())
		}
		w.list("condition-"+string(of), values)
	}
}

func (w *writer) life(s spec.Spec) {
	w.text("restart", string(s.Restart))
	w.time("restart-pause", s.RestartPause)
	w.time("restart-limit", s.RestartLimit)
	w.number("give-up-after", s.GiveUp.Lives)
	w.time("give-up-within", s.GiveUp.Within)
	w.key("start-timeout", quote(keys.Short(s.StartTimeout))) // "0s" is for ever, and not the default everywhere
	w.key("stop-timeout", quote(keys.Short(s.StopTimeout)))
	w.text("stop-signal", s.StopSignal)
	w.text("kill-mode", string(s.KillMode))
	w.text("reload-signal", s.ReloadSignal)
	w.list("reload-command", s.ReloadCommand)
	w.time("watchdog-every", s.WatchdogEvery)
	w.list("health-command", s.Health.Command)
	w.time("health-every", s.Health.Every)
	w.time("health-timeout", s.Health.Timeout)
	w.number("health-retries", s.Health.Retries)
}

func (w *writer) demand(s spec.Spec) {
	if l := s.Listen; len(l.Sockets) > 0 {
		values := make([]string, len(l.Sockets))
		for i, sock := range l.Sockets {
			values[i] = sock.String()
		}
		w.list("listen", values)
		w.key("listen-mode", fmt.Sprintf(`"%04o"`, l.Mode))
		w.text("listen-user", l.User)
		w.text("listen-group", l.Group)
		if l.Each {
			w.flag("listen-each", true)
			w.number("listen-max", l.Max)
		}
	}
	w.time("timer-after-boot", s.Timer.AfterBoot)
	w.time("timer-every", s.Timer.Every)
	w.time("timer-random-delay", s.Timer.Spread)
	w.list("watch-paths", s.WatchPaths)
	w.number("fd-store", s.FDStore)
	w.flag("listen-stored", s.ListenStored)
}

func (w *writer) limits(s spec.Spec) {
	w.number("oom-score", s.OOMScore)
	w.size("memory-min", s.Limits.MemoryMin)
	w.size("memory-high", s.Limits.MemoryHigh)
	w.size("memory-max", s.Limits.MemoryMax)
	w.number("pids-max", s.Limits.Pids)
	w.number("cpu-weight", s.Limits.CPUWeight)
	w.number("boot-cpu-weight", s.Limits.BootCPUWeight)
	w.flag("cgroup-delegate", s.CgroupDelegate)
}

func (w *writer) confinement(s spec.Confinement) {
	w.list("packed", s.Packed)
	w.flag("private-tmp", s.PrivateTmp)
	w.list("read-only-paths", s.ReadOnlyPaths)
	w.list("hidden-paths", s.HiddenPaths)
	w.flag("mount-namespace", s.MountNamespace)
	if s.OwnMounts() {
		w.text("propagation", string(s.Propagation))
	}
	if s.Bounded {
		w.key("capabilities", array(s.Capabilities))
	}
	w.flag("no-new-privileges", s.NoNewPrivileges)
	w.text("seccomp", s.Seccomp)
	w.number("nice", s.Nice)
}

// tables come last: a key behind one would belong to it.
func (w *writer) tables(s spec.Spec) {
	if len(s.Environment) > 0 {
		w.b.WriteString("\n[environment]\n")
		for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
			w.key(name, quote(s.Environment[name]))
		}
	}
	if len(s.Confinement.Rlimits) > 0 {
		w.b.WriteString("\n[rlimits]\n")
		for _, name := range slices.Sorted(maps.Keys(s.Confinement.Rlimits)) {
			w.key(name, quote(s.Confinement.Rlimits[name].String()))
		}
	}
}
