package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// row is what a service asks for, a command that looks whether it is so in the container, and what that prints.
type row struct {
	name, yaml, look, want string
}

// inContainer are the fields of which the container itself sees the effect. Those that TestFields,
// TestFirstProcessAndInput, TestSharedNamespaces, TestPublishedPort, TestDependsOn and TestHealth carry out lack here.
var inContainer = []row{
	{"command", "", "echo $$0 $$1", "look a"},
	{"entrypoint", "environment: {A: b}", "echo $$A", "b"},
	{"working_dir", "working_dir: /tmp/deep/in", "pwd", "/tmp/deep/in"},
	{"user", `user: "1000:1001"`, "id -u; id -g", "1000 1001"},
	{"domainname", "domainname: example.org", "cat /proc/sys/kernel/domainname", "example.org"},
	{"group_add", `group_add: ["4321", "4322"]`, "grep Groups /proc/self/status", "Groups: 0 4321 4322"},
	{"cap_drop", "cap_drop: [ALL]", "grep CapEff /proc/self/status", "CapEff: 0000000000000000"},
	{"cap_add", "{cap_drop: [ALL], cap_add: [SYS_TIME]}", "grep CapEff /proc/self/status", "CapEff: 0000000002000000"},
	{"privileged", "privileged: true", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ls /dev/kmsg",
		"NoNewPrivs: 0 Seccomp: 0 /dev/kmsg"},
	{"security", "", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status", "NoNewPrivs: 1 Seccomp: 2"},
	{"security_opt", `security_opt: ["no-new-privileges:false", "seccomp:unconfined"]`,
		"grep -E 'NoNewPrivs|Seccomp:' /proc/self/status", "NoNewPrivs: 0 Seccomp: 0"},
	{"systempaths", `security_opt: ["systempaths=unconfined"]`, "grep -c ' /proc/sys ' /proc/self/mountinfo || :", "0"},
	{"systempaths by default", "", "grep -c ' /proc/sys ' /proc/self/mountinfo || :", "1"},
	{"read_only", "read_only: true", "echo > /x || echo refused", "refused"},
	{"sysctls", `sysctls: {net.ipv4.ip_default_ttl: "77", kernel.msgmax: "4096"}`,
		"cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", "77 4096"},
	{"ulimits", "ulimits: {nofile: {soft: 100, hard: 200}, core: 0}",
		"ulimit -S -n; ulimit -H -n; ulimit -c", "100 200 0"},
	{"shm_size", "shm_size: 3m", "df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2", "3072"},
	{"oom_score_adj", "oom_score_adj: 321", "cat /proc/self/oom_score_adj", "321"},
	{"extra_hosts", `{network_mode: bridge, extra_hosts: ["a.example:192.0.2.1", "a.example:192.0.2.2"]}`,
		"grep a.example /etc/hosts", "192.0.2.1 a.example 192.0.2.2 a.example"},
	{"dns", "{network_mode: bridge, dns_search: [one.example, two.example], dns_opt: [\"timeout:7\", attempts:3]}",
		"grep -E 'search|options' /etc/resolv.conf",
		"options ndots:0 timeout:7 attempts:3 search one.example two.example"},
	{"devices", "devices: [\"/dev/fuse:/dev/mine:r\"]",
		"true < /dev/mine && echo read; true > /dev/mine || echo refused",
		"read refused"},
	{"device_cgroup_rules", "{cap_add: [MKNOD], device_cgroup_rules: [\"c 10:229 rwm\"]}",
		"mknod /m c 10 229; mknod /k c 1 11; true < /m && echo opened; true < /k || echo refused", "opened refused"},
	{"enable_ipv6", "networks: {six: {ipv6_address: \"fd77::9\"}}", "grep ^fd77 /proc/net/if_inet6 | cut -d' ' -f1",
		"fd770000000000000000000000000009"},
	{"ipc", "ipc: private", "ls /dev/shm | wc -l", "0"},
	{"procfs", "labels: {io.balena.features.procfs: \"1\"}", ownNumber + "echo device", "device"},
	{"procfs by default", "", ownNumber + "echo device || echo container", "container"},
	{"sysfs", "labels: {io.resin.features.sysfs: \"true\"}", sysMount, "rw"},
	{"sysfs by default", "", sysMount, "ro"},
	{"tmpfs", "tmpfs: [\"/t:size=2m,mode=711\"]", sizeAndMode, "2048 711"},
	{"tmpfs, long form", "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1048576, mode: 0o1750}}]", sizeAndMode,
		"1024 1750"},
	{"volume", "volumes: [\"new:/some\"]", "ls /some", "thing"},
	{"nocopy", "volumes: [{type: volume, source: other, target: /some, volume: {nocopy: true}}]", "ls /some", ""},
	{"subpath", "volumes: [{type: volume, source: parts, target: /p, volume: {subpath: a/b}}, \"parts:/all\"]",
		"echo x > /p/file; cat /all/a/b/file", "x"},
	{"create_host_path", "volumes: [\"./made/here:/m\"]", "echo x > /m/file; cat /m/file", "x"},
	{"propagation", "volumes: [{type: bind, source: ./shared, target: /m, bind: {propagation: rslave}}]",
		"grep -c ' /m .* master:' /proc/self/mountinfo || :", "1"},
	{"propagation both ways", "volumes: [{type: bind, source: ./shared, target: /m, bind: {propagation: rshared}}]",
		"grep -c ' /m .* shared:' /proc/self/mountinfo || :", "1"},
	{"no propagation", "volumes: [{type: bind, source: ./shared, target: /m}]",
		"grep -cE ' /m .* (master|shared):' /proc/self/mountinfo || :", "0"},
	{"volumes_from", "volumes_from: [\"source:ro\"]", "cat /from/file; echo > /from/x || echo refused", "kept refused"},
	{"volumes_from, container", "volumes_from: [\"container:known\"]", "cat /from/file; echo > /from/x && echo written",
		"kept written"},
	{"configs", "configs: [{source: text, target: /etc/c, mode: 0o440, uid: \"7\"}]",
		"cat /etc/c; echo; stat -c '%a %u' /etc/c", "said 440 7"},
	{"uts", "uts: host", "[ \"$$(hostname)\" != uts ] && echo device", "device"},
	{"pid", "pid: host", "[ $$$$ != 1 ] && echo device", "device"},
}

// ownNumber compares the number that the shell has for itself with that in /proc.
const ownNumber = "read pid rest < /proc/self/stat; [ $$pid != $$$$ ] && "

// sysMount says whether /sys is mounted rw or ro.
const sysMount = "cut -d' ' -f5,6 /proc/self/mountinfo | grep '^/sys ' | cut -c6-7"

const sizeAndMode = "df -k /t | tail -n1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /t"

// service is the name of the row's.
func (r row) service() string {
	return strings.NewReplacer(" ", "-", ",", "", "_", "-").Replace(r.name)
}

// write returns the row as a service that prints what it sees.
func (r row) write() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s:\n    image: busybox\n", r.service())
	fields := strings.Trim(r.yaml, "{}")
	if strings.HasPrefix(r.yaml, "{") { // several
		b.WriteString("    <<: {" + fields + "}\n")
	} else if fields != "" {
		b.WriteString("    " + r.yaml + "\n")
	}
	if !strings.Contains(r.yaml, "network") {
		b.WriteString("    network_mode: none\n")
	}
	fmt.Fprintf(&b, "    entrypoint: [/bin/sh, -c, %q, look]\n    command: [a]\n", r.look+"; echo over")
	return b.String()
}

// TestEachField starts one container for each field that has an effect that the container sees.
func TestEachField(t *testing.T) {
	d := newDevice(t)
	loopbackUp(t)
	var b strings.Builder
	b.WriteString(`volumes: {new: , other: , parts: , kept: }
configs: {text: {content: said}}
networks: {six: {enable_ipv6: true, ipam: {config: [{subnet: "fd77::/64"}]}}}
services:
  source:
    image: busybox
    network_mode: none
    container_name: known
    command: ["/bin/sh", "-c", "echo kept > /from/file; echo over; exec sleep 1000"]
    volumes: ["kept:/from"]
    healthcheck: {test: cat /from/file, interval: 100ms}
`)
	outs := map[string]*output{}
	for _, r := range inContainer {
		text := r.write()
		if strings.Contains(r.yaml, "volumes_from") {
			text += "    depends_on: {source: {condition: service_healthy}}\n"
		}
		b.WriteString(text)
		outs[r.name] = d.output("shop."+r.service(), "stdout")
	}
	d.app("shop", b.String(), "busybox")
	d.shareMounts("apps", "shop", "shared")
	begin := time.Now()
	d.engine()
	for _, r := range inContainer {
		got := strings.Fields(strings.Join(outs[r.name].until("over"), " "))
		if want := strings.Fields(r.want); !slices.Equal(got, want) {
			t.Errorf("%s: %s prints %q, want %q", r.name, r.look, got, want)
		}
	}
	t.Logf("%d containers in %v", len(inContainer)+1, time.Since(begin))
	if warned := d.status("shop"); strings.Contains(warned, "not carried out") {
		t.Errorf("%s", warned)
	}
}

// shareMounts makes a directory of which mounts reach those who bind it so.
func (d *device) shareMounts(sub ...string) {
	d.t.Helper()
	path := d.path(sub...)
	if err := errors.Join(os.MkdirAll(path, 0o755), unix.Mount("shared", path, "tmpfs", 0, ""),
		unix.Mount("", path, "", unix.MS_SHARED, "")); err != nil {
		d.t.Fatal(err)
	}
}

// until returns the lines before one that is text.
func (o *output) until(text string) (lines []string) {
	o.t.Helper()
	for {
		line := o.await("")
		if line == text {
			return lines
		}
		lines = append(lines, line)
	}
}

// limits are the fields whose effect the kernel shows in the cgroup of the container, by the file of cgroup v2.
var limits = []struct{ name, yaml, file, want string }{
	{"pids", "pids_limit: 77", "pids.max", "77"},
	{"pids-default", "", "pids.max", "512"},
	{"pids-none", "pids_limit: -1", "pids.max", "max"},
	{"memory", "{mem_limit: 32m, mem_reservation: 16m}",
		"memory.max memory.low memory.swap.max", "33554432 16777216 33554432"},
	{"swap", "{mem_limit: 32m, memswap_limit: 48m}", "memory.swap.max", "16777216"},
	{"cpus", "cpus: 0.5", "cpu.max", "50000 100000"},
	{"quota", "{cpu_quota: 20000, cpu_period: 40000}", "cpu.max", "20000 40000"},
	{"shares", "cpu_shares: 2048", "cpu.weight", "79"},
	{"cpuset", "cpuset: \"0\"", "cpuset.cpus", "0"},
	{"weight", "blkio_config: {weight: 300}", "io.bfq.weight", "300"},
	{"deploy", "deploy: {resources: {limits: {cpus: \"0.25\", memory: 24m, pids: 33}, reservations: {memory: 8m}}}",
		"cpu.max memory.max pids.max memory.low", "25000 100000 25165824 33 8388608"},
}

// version1 are the controllers of cgroup v1 and its files in their place, where they say the same.
var version1 = map[string]string{
	"pids.max": "pids/pids.max", "memory.max": "memory/memory.limit_in_bytes",
	"memory.low": "memory/memory.soft_limit_in_bytes", "cpuset.cpus": "cpuset/cpuset.cpus",
	"io.bfq.weight": "blkio/blkio.bfq.weight",
}

// TestLimits compares what services ask of the kernel with what it holds their containers to. What the kernel of this
// host has no file for cannot be seen.
func TestLimits(t *testing.T) {
	d := newDevice(t)
	var b strings.Builder
	b.WriteString("services:\n")
	for _, l := range limits {
		b.WriteString(row{name: l.name, yaml: l.yaml, look: "sleep 1000"}.write())
	}
	d.app("shop", b.String(), "busybox")
	d.engine()
	seen := 0
	for _, l := range limits {
		d.started("shop." + l.name)
		want := strings.Fields(l.want)
		for _, file := range strings.Fields(l.file) {
			n := 1 + strings.Count(file, "cpu.max")
			text, err := d.cgroupFile("shop."+l.name, file)
			if err != nil {
				t.Logf("%s: %v", l.name, err)
			} else if seen++; strings.TrimSpace(text) != strings.Join(want[:n], " ") {
				t.Errorf("%s: %s is %q, want %q", l.name, file, text, want[:n])
			}
			want = want[n:]
		}
	}
	if seen < 5 {
		t.Errorf("%d limits were seen", seen)
	}
}

// cgroupFile is a file of the cgroup of a container, with either version.
func (d *device) cgroupFile(id, file string) (string, error) {
	base := filepath.Join(filepath.Base(d.dir), id)
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", base, file))
	if err != nil && version1[file] != "" {
		controller, name := filepath.Split(version1[file])
		text, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, base, name))
	}
	if err != nil && file == "cpu.max" {
		quota, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpu", base, "cpu.cfs_quota_us"))
		period, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpu", base, "cpu.cfs_period_us"))
		return strings.Join(strings.Fields(string(quota)+" "+string(period)), " "), err
	}
	return string(text), err
}
