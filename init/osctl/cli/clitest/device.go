package clitest

import (
	"os"
	"path/filepath"
	"testing"

	"resinos/services/bootreport"
	"resinos/services/pid1"
	"resinos/services/spec"
)

// Services are those of the device: in every state, and with names and texts that no terminal should get as they are.
func Services() []pid1.ServiceStatus {
	return []pid1.ServiceStatus{
		{Name: "logd", State: "up", PID: 61, Since: 1.9, Type: "simple", Began: 3.61, Ready: 3.62},
		{Name: "containerd", State: "up", PID: 1234, Since: 4.9, Restarts: 2, LastExit: "killed by SIGKILL", Began: 3.7,
			Ready: 4.9, Type: "notify", After: []string{"logd"}},
		{Name: "netd", State: "up", PID: 77, Since: 3.8, Text: "1 lease\x1b[31m", Wants: []string{"logd"}, Began: 3.7,
			Ready: 3.8, Type: "simple", Description: "links and \x1bleases",
			Health: "ok", Reloads: true},
		{Name: "seed", State: "done", Since: 4, LastExit: "exited with status 0", Began: 3.6, Ready: 4,
			Type: "oneshot"},
		{Name: "manager", State: "backoff", Since: 3600, Restarts: 11, Failures: 3, Reason: "exited with status 1",
			RetryIn: 1.6, Needs: []string{"containerd"},
			After: []string{"netd", "gone"}, Began: 4.95, Ready: 4.96, Type: "simple"},
		{Name: "shop", State: "waiting", Since: 3600, Reason: "needs manager, which is in backoff",
			Needs: []string{"manager", "netd"}, Type: "simple"},
		{Name: "till", State: "up", PID: 300, Since: 7, Needs: []string{"containerd"}, Type: "simple", Began: 6,
			Ready: 7, Changed: true},
		{Name: "bell", State: "starting", PID: 301, Since: 93_780, Needs: []string{"till"}, Type: "notify",
			Began: 93_780},
		{Name: "web", State: "armed", Since: 5, Demand: []string{"listen tcp::80", "watch /srv/日本"}, Type: "simple"},
		{Name: "backup", State: "armed", Since: 5, Demand: []string{"every 1h0m0s"}, NextIn: 1800, Restarts: 25,
			Type: "oneshot", Wants: []string{"web", "backup"}},
		{Name: "sshd", State: "failed", Since: 90_000, Restarts: 5, Reason: "gave up after 5 tries", Type: "simple"},
		{Name: "demo", State: "masked", Since: 5, Masked: true, Type: "simple", Needs: []string{"ring"}},
		{Name: "ring", State: "down", Since: 5, Type: "simple", Needs: []string{"demo"}},
	}
}

// shown is what PID 1 shows of a service.
func shown() pid1.Shown {
	netd := spec.Spec{Name: "netd", Command: []string{"/usr/sbin/netd"}, Description: "links\x1b"}
	return pid1.Shown{Status: Services()[2], Spec: netd}
}

// rescanned is what PID 1 finds in the service files.
func rescanned() pid1.Rescanned {
	return pid1.Rescanned{
		Added: []string{"web"}, Changed: []string{"netd"}, Removed: []string{"a", "b"},
		Faults: []string{"/etc/resinos/services/x.toml:3: key \"tpye\": no such key\x1b"},
	}
}

// report is the time line of the boot, and how the boot before it ended.
func report() bootreport.Report {
	return bootreport.Report{
		Milestones: map[string]float64{"pid1": 1.7, "root": 2.031, "lease": 4.5, "container_output": 5.932},
		Steps: []bootreport.Step{
			{Stage: "initramfs", Name: "mount pseudo file systems", Start: 1.701, Duration: 0.003, Result: "ok"},
			{Stage: "initramfs", Name: "load modules", Start: 1.704, Duration: 0.212, Result: "ok"},
			{Stage: "root", Name: "read config.json", Start: 2.04, Duration: 0.001, Result: "ignored",
				Error: "open config.json: no such file"},
			{Stage: "root", Name: "attach data", Start: 2.1, Duration: 1.5, Result: "degraded",
				Error: "mount \x1b]0;bad\a"},
		},
		Slot: "A", Disk: "vda",
		Last: &bootreport.Last{How: "watchdog", Why: "the loop stood still\x1b", BootID: "0f6d", Uptime: 7200},
	}
}

// plan is the beginning of the boot of a production image.
func plan() []bootreport.PlannedStep {
	return []bootreport.PlannedStep{
		{Name: "attach pseudo", Severity: bootreport.Degraded, Does: []string{}},
		{Name: "clock", Severity: bootreport.Degraded, Does: []string{
			"set the clock to the latest of build time and hardware clock",
			"note in /run/resinos/time.json where it began",
		}},
	}
}

// Device is a root with what the kernel and the image would have there.
func Device(t *testing.T) string {
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
