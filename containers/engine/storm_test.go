package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"resinos/mounts/testenv"
)

const stormy = `x-one: &one
  image: busybox
  restart: always
  command: ["/bin/sh", "-c", "echo up; while :; do echo served | nc -l -p 80; done"]
services:
  a: {<<: *one, ports: ["PORT:80"], volumes: ["data:/data"]}
  b: {<<: *one, read_only: true, userns_mode: auto}
  c: {<<: *one, ipc: shareable, tmpfs: [/scratch]}
  d: {<<: *one, init: true, stdin_open: true}
volumes: {data: }
`

// traces is what an engine and a manager leave in the kernel: mounts, links, addresses, and rules of the packet filter.
func (d *device) traces() map[string]int {
	d.t.Helper()
	out := map[string]int{}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], d.dir+"/") {
			out["mounts"]++
		}
	}
	out["links"] = len(links(d.t))
	rules, err := exec.Command("nft", "list", "ruleset").Output() // of this network namespace
	if err != nil {
		d.t.Fatal(err)
	}
	out["rules"] = strings.Count(string(rules), "\n")
	addresses, err := os.ReadFile("/proc/net/fib_trie")
	if err != nil {
		d.t.Fatal(err)
	}
	out["addresses"] = strings.Count(string(addresses), "/32 host LOCAL")
	return out
}

// storm is how many processes are killed.
const storm = 60

// TestKillStorm: whatever of engine, shims and programs is killed, or the engine ended, and whenever, all containers
// come back, none twice, and nothing is left over in the kernel: the traces are those of before, and none when the apps
// are gone.
func TestKillStorm(t *testing.T) {
	testenv.NeedProgram(t, "nft")
	d := newDevice(t)
	loopbackUp(t)
	before := d.traces()
	var ids []string
	for i := range 3 {
		name := fmt.Sprintf("app%d", i)
		d.app(name, strings.NewReplacer("PORT", fmt.Sprint(8080+i), "busybox", name).Replace(stormy), name)
		for _, service := range []string{"a", "b", "c", "d"} {
			ids = append(ids, name+"."+service)
		}
	}
	engine := d.engine()
	whole := func() bool {
		for i := range 3 {
			if !strings.Contains(ask(fmt.Sprintf("127.0.0.1:%d", 8080+i)), "served") {
				return false
			}
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return !alive(d.pid(id)) })
	}
	d.eventually("all run", whole)
	running := d.traces()
	for i := range storm {
		id := ids[rand.IntN(len(ids))]
		switch rand.IntN(4) {
		case 0:
			d.end(engine, syscall.SIGKILL)
			engine = d.engine()
		case 1:
			d.end(engine, syscall.SIGTERM)
			engine = d.engine()
		case 2:
			if pid := d.pid(id); alive(pid) {
				_ = syscall.Kill(parentOf(t, pid), syscall.SIGKILL) // the shim of the whole app; it may have ended
			}
		case 3:
			if pid := d.pid(id); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}
		if i%15 == 14 {
			d.eventually("all run again", whole)
		}
	}
	d.eventually("all run at the end", whole)
	d.eventually("the traces are those of before the storm", func() bool { return same(running, d.traces()) })
	// A container that was just started has a process, which becomes its program a moment later.
	d.eventually("each container runs, none twice",
		func() bool { return containersRunning("echo up; while") == len(ids) })
	if err := os.RemoveAll(d.path("apps")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.path("apps"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := engine.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.eventually("nothing is left", func() bool { return d.left() == "" })
	d.eventually("the kernel has no traces", func() bool { return same(before, d.traces()) })
	if found, err := filepath.Glob(d.path("run", "mounts", "*")); err != nil || len(found) > 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

func same(a, b map[string]int) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// containersRunning is in how many containers a program runs whose command line has this text.
func containersRunning(text string) int {
	found := map[string]bool{}
	for _, pid := range pids() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.HasPrefix(string(line), "/bin/sh\x00-c\x00"+text) || !alive(pid) {
			continue
		}
		if namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil {
			found[namespace] = true
		}
	}
	return len(found)
}
