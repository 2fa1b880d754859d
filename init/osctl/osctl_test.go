package osctl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/control"
	"resinos/services/log/ring"
	"resinos/services/pid1"
	"resinos/services/spec"
)

var services = []pid1.ServiceStatus{
	{Name: "logd", State: "up", PID: 61, Since: 1.9, Type: "simple", Began: 3.61, Ready: 3.62},
	{Name: "containerd", State: "up", PID: 1234, Since: 4.9, Restarts: 2, LastExit: "killed by SIGKILL", Began: 3.7, Ready: 4.9, Type: "notify", After: []string{"logd"}},
	{Name: "netd", State: "up", PID: 77, Since: 3.8, Text: "1 lease\x1b[31m", Wants: []string{"logd"}, Began: 3.7, Ready: 3.8, Type: "simple", Description: "links and \x1bleases",
		Health: "ok", Reloads: true},
	{Name: "seed", State: "done", Since: 4, LastExit: "exited with status 0", Began: 3.6, Ready: 4, Type: "oneshot"},
	{Name: "manager", State: "backoff", Since: 3600, Restarts: 11, Failures: 3, Reason: "exited with status 1", RetryIn: 1.6, Needs: []string{"containerd"},
		After: []string{"netd", "gone"}, Began: 4.95, Ready: 4.96, Type: "simple"},
	{Name: "shop", State: "waiting", Since: 3600, Reason: "needs manager, which is in backoff", Needs: []string{"manager", "netd"}, Type: "simple"},
	{Name: "till", State: "up", PID: 300, Since: 7, Needs: []string{"containerd"}, Type: "simple", Began: 6, Ready: 7, Changed: true},
	{Name: "bell", State: "starting", PID: 301, Since: 93_780, Needs: []string{"till"}, Type: "notify", Began: 93_780},
	{Name: "web", State: "armed", Since: 5, Demand: []string{"listen tcp::80", "watch /srv/日本"}, Type: "simple"},
	{Name: "backup", State: "armed", Since: 5, Demand: []string{"every 1h0m0s"}, NextIn: 1800, Restarts: 25, Type: "oneshot", Wants: []string{"web", "backup"}},
	{Name: "sshd", State: "failed", Since: 90_000, Restarts: 5, Reason: "gave up after 5 tries", Type: "simple"},
	{Name: "demo", State: "masked", Since: 5, Masked: true, Type: "simple", Needs: []string{"ring"}},
	{Name: "ring", State: "down", Since: 5, Type: "simple", Needs: []string{"demo"}},
}

// TestRemoved: that an owner has taken a service away is no fault of the device.
func TestRemoved(t *testing.T) {
	s := &session{&cli.Session{}}
	leaves := pid1.ServiceStatus{Name: "shop", State: "stopping", Removed: true}
	if got := s.health(host{}, inventory.Inventory{Services: []pid1.ServiceStatus{leaves}}); got != "well: 1 service, 1 stopping" {
		t.Errorf("health = %q", got)
	}
	if got := note(&leaves); got != "file removed: it stops" {
		t.Errorf("note = %q", got)
	}
}

var shown = pid1.Shown{Status: services[2], Spec: spec.Spec{Name: "netd", Command: []string{"/usr/sbin/netd"}, Description: "links\x1b"}}

var rescanned = pid1.Rescanned{
	Added: []string{"web"}, Changed: []string{"netd"}, Removed: []string{"a", "b"}, Faults: []string{"/etc/resinos/services/x.toml:3: key \"tpye\": no such key\x1b"},
}

var report = bootreport.Report{
	Milestones: map[string]float64{"pid1": 1.7, "root": 2.031, "lease": 4.5, "container_output": 5.932},
	Steps: []bootreport.Step{
		{Stage: "initramfs", Name: "mount pseudo file systems", Start: 1.701, Duration: 0.003, Result: "ok"},
		{Stage: "initramfs", Name: "load modules", Start: 1.704, Duration: 0.212, Result: "ok"},
		{Stage: "root", Name: "read config.json", Start: 2.04, Duration: 0.001, Result: "ignored", Error: "open config.json: no such file"},
		{Stage: "root", Name: "attach data", Start: 2.1, Duration: 1.5, Result: "degraded", Error: "mount \x1b]0;bad\a"},
	},
	Slot: "A", Disk: "vda",
}

// device is a root with what the kernel and the image would have there.
func device(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/sys/kernel/hostname": "shop-7\x1b\n",
		"etc/os-release":           "NAME=\"resinOS\"\nVERSION=\"2.1.0\"\n",
		"proc/meminfo":             "MemTotal:  497000 kB\nMemAvailable:  301000 kB\n",
		"proc/loadavg":             "0.10 0.20 0.30 1/99 1234\n",
		"proc/77/cmdline":          "/usr/sbin/netd\x00",
		"proc/77/stat":             "77 (netd) S 1 77",
		"proc/92/cmdline":          "sh\x00-c\x00\x1b[2J",
		"proc/92/stat":             "92 (sh) S 77 77",
		"proc/93/stat":             "93 (sleep) S 92 77",
		"proc/94/cmdline":          "dhcp\x00",
		"proc/94/stat":             "94 (dhcp) S 77 77",
		"sys/fs/cgroup/resinos/netd/cgroup.procs":         "77\n92\n93\n94\n",
		"sys/fs/cgroup/resinos/netd/memory.current":       "4404019\n",
		"sys/fs/cgroup/resinos/netd/memory.peak":          "6401000\n",
		"sys/fs/cgroup/resinos/netd/pids.current":         "5\n",
		"sys/fs/cgroup/resinos/netd/cpu.stat":             "usage_usec 1250000\n",
		"sys/fs/cgroup/resinos/netd/io.stat":              "8:0 rbytes=4096 wbytes=0\n",
		"sys/fs/cgroup/resinos/containerd/memory.current": "44040190\n",
		"sys/fs/cgroup/resinos/containers/hello.web/x":    "",
		"usr/lib/resinos/services/netd.toml":              "command = [\"/usr/sbin/netd\"]\nwants = [\"logd\"]\n",
		"etc/resinos/services/netd.toml":                  "oom-score = -1000\nafter = []\n",
		"usr/lib/resinos/services/sshd.toml":              "command = [\"/usr/sbin/sshd\"]\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// fake is a PID 1 that answers from memory.
func fake(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	named := func(state string) control.Handler {
		return func(_ context.Context, raw json.RawMessage) (any, error) {
			var a pid1.Kill
			if err := control.Args(raw, &a); err != nil {
				return nil, err
			}
			if a.Name == "nobody" {
				return nil, &control.Error{Text: `no service "nobody"`, Hint: "try: osctl status"}
			}
			return pid1.ServiceStatus{Name: a.Name, State: state, PID: 5}, nil
		}
	}
	value := func(v any) control.Handler {
		return func(context.Context, json.RawMessage) (any, error) { return v, nil }
	}
	handlers := map[string]control.Handler{
		"show": value(shown), "rescan": value(rescanned), "reload": named("up"), "re-exec": value(nil),
		"status": value(services), "boot": value(report), "plan": value(nil), "start": named("up"), "stop": named("down"),
		"restart": named("up"), "kill": named("backoff"), "power": value(nil),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		control.Serve(ctx, path, handlers, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { cancel(); <-done })
	awaitFile(t, path)
	return path
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	testenv.WaitFor(t, path+" is there", func() bool { _, err := os.Stat(path); return err == nil })
}

// terminal is how a test's terminal is.
type terminal struct {
	colour, fancy bool
	columns       int
}

// call runs one command line against the fake and returns all that can be seen of it.
func call(t *testing.T, path string, as terminal, args ...string) string {
	t.Helper()
	return callIn(t, t.TempDir(), path, as, args...)
}

func callIn(t *testing.T, root, path string, as terminal, args ...string) string {
	t.Helper()
	var out, talk bytes.Buffer
	s := &session{&cli.Session{
		Env:    cli.Env{Stdout: &out, Stderr: &talk, Control: path, Log: path + ".log", Root: root},
		Screen: screen.Screen{Colour: as.colour, Fancy: as.fancy, Columns: as.columns}, Now: func() time.Duration { return 93_784 * time.Second },
		Wall: func() time.Time { return time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC) },
	}}
	code := s.main(t.Context(), args)
	text := fmt.Sprintf("$ osctl %s\n%s--- stderr\n%s--- exit %d\n", strings.Join(args, " "), out.String(), talk.String(), code)
	return strings.NewReplacer(path, "SOCKET", root, "ROOT").Replace(text)
}

func TestGolden(t *testing.T) {
	testenv.NeedRoot(t, "a control socket that answers nobody else")
	path := fake(t)
	for name, lines := range map[string][]string{
		"status":        {"status", "status netd sshd", "status logd", "status nobody", "status netf", "status --json logd", "status -json -- logd"},
		"help":          {"help", "help logs", "help kill", "help boot", "status -h", "help nothing", "", "stat", "restrat", "quux", "logs -x", "logs hello", "logs -p loud", "logs --lines many", "logs -n 5", "logs -b 7", "logs --since soon", "logs -o xml", "--help"},
		"status_colour": {"status", "status netd"},
		"narrow":        {"status", "status netd"},
		"wide":          {"status"},
	} {
		t.Run(name, func(t *testing.T) {
			as := terminal{colour: strings.HasSuffix(name, "_colour")}
			switch name {
			case "narrow":
				as.columns = 40
			case "wide":
				as.columns, as.fancy = 100, true
			}
			var all strings.Builder
			for _, line := range lines {
				all.WriteString(callIn(t, device(t), path, as, strings.Fields(line)...))
			}
			testenv.Golden(t, name+".golden", all.String())
			for line := range strings.Lines(all.String()) {
				if as.columns > 0 && !strings.HasPrefix(line, "$ ") && screen.Width(strings.TrimSuffix(line, "\n")) > as.columns {
					t.Errorf("wider than %d columns: %s", as.columns, line)
				}
			}
		})
	}
}

// TestDryRunIsEverywhereTheSame: -n prints what a command would do, in every command that has it.
func TestDryRunIsEverywhereTheSame(t *testing.T) {
	found := 0
	for _, c := range commands() {
		if c.run == nil {
			continue
		}
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		_ = c.run(t.Context(), &cli.Session{}, flags, []string{"-h"}) // it only defines the flags
		if f := flags.Lookup("n"); f != nil {
			found++
			if f.Usage != "prints what it would do, and does nothing" || f.DefValue != "false" {
				t.Errorf("osctl %s -n: %s", c.name, f.Usage)
			}
		}
		changes := c.theme == changing || c.theme == powering || c.name == "config" || c.name == "mask" || c.name == "unmask" || c.name == "rescan"
		if changes != (flags.Lookup("n") != nil) {
			t.Errorf("osctl %s: it changes something is %t, it has -n is %t", c.name, changes, !changes)
		}
	}
	if found == 0 {
		t.Error("no command has -n")
	}
}

func TestLogLinesAreCut(t *testing.T) {
	s := &session{&cli.Session{Screen: screen.Screen{Columns: 30, Fancy: true, Colour: true}, Now: func() time.Duration { return 0 }}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := detail{ServiceStatus: &services[0], log: []ring.Entry{{Time: at, Name: "a", Priority: 3, Message: "short"}, {Time: at, Name: "a", Message: "a\tmuch longer one"}}}
	text := s.detailText(&d)
	if !strings.Contains(text, "\x1b[31mshort") || !strings.Contains(text, "Jan 02 03:04:05.000 a: a much…\n") {
		t.Errorf("%q", text)
	}
}

// A definition may be as wrong as it likes: nothing may hang or leave a service out.
func TestCyclesAreDrawn(t *testing.T) {
	list := []pid1.ServiceStatus{
		{Name: "a", State: "down", Needs: []string{"b", "a"}}, {Name: "b", State: "down", Needs: []string{"c"}}, {Name: "c", State: "down", Needs: []string{"b"}},
		{Name: "d", State: "up", Needs: []string{"e"}}, {Name: "e", State: "failed", Needs: []string{"d"}},
	}
	s := &session{&cli.Session{Now: func() time.Duration { return 0 }}}
	text := s.statusTable(list, func(string) int64 { return -1 })
	for _, st := range list {
		if !strings.Contains(text, st.Name+" ") {
			t.Errorf("service %s is not in\n%s", st.Name, text)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	got := call(t, filepath.Join(t.TempDir(), "missing"), terminal{}, "status")
	if !strings.Contains(got, "PID 1 does not answer") || !strings.Contains(got, "resinOS device") || !strings.HasSuffix(got, "exit 1\n") {
		t.Error(got)
	}
}
