package appbench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// world is where one engine runs alone: mount, process and network namespaces of its own, with /run and /mnt in memory
// and a directory of the host's disk for what persists.
type world struct {
	t    *testing.T
	dir  string // on the disk
	bin  string // the programs
	peer bool   // Debian's engine, not ours
}

// enter makes the world around this process, which is the first one of its namespaces.
func enter(t *testing.T, dir, bin string, peer bool) *world {
	t.Helper()
	w := &world{t: t, dir: dir, bin: bin, peer: peer}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	// Both use cgroup v1 where the host has both versions, as crun wants it.
	if err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) &&
		!errors.Is(err, unix.ENOENT) {
		t.Fatal(err)
	}
	for _, at := range []string{"/run", "/mnt"} {
		must(unix.Mount("tmpfs", at, "tmpfs", 0, "mode=755"))
	}
	for from, to := range map[string]string{"data": "/mnt/data", "docker": "/mnt/docker"} {
		must(os.MkdirAll(filepath.Join(dir, from), 0o755))
		must(os.MkdirAll(to, 0o755))
		must(unix.Mount(filepath.Join(dir, from), to, "", unix.MS_BIND, ""))
	}
	for _, sub := range []string{"/run/resinos/log", "/run/netns", "/mnt/data/apps", "/mnt/data/registries"} {
		must(os.MkdirAll(sub, 0o755))
	}
	must(os.WriteFile("/run/resolv.conf", nil, 0o644))
	must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	must(os.Setenv("PATH", bin+":"+os.Getenv("PATH")))
	must(os.Setenv("HOME", "/run"))
	w.outside()
	return w
}

// outside makes a network namespace that stands for the network that the device is on: 10.99.0.1 is the device.
func (w *world) outside() {
	w.t.Helper()
	for _, words := range []string{
		"ip link set lo up", "ip netns add outside", "ip link add uplink type veth peer name lan netns outside",
		"ip addr add 10.99.0.1/24 dev uplink", "ip link set uplink up", "ip -n outside addr add 10.99.0.2/24 dev lan",
		"ip -n outside link set lan up", "ip route add default via 10.99.0.2",
	} {
		w.command(strings.Fields(words)...)
	}
	if _, err := netlink.LinkByName("uplink"); err != nil {
		w.t.Fatal(err)
	}
}

// command runs a program to its end and returns what it wrote.
func (w *world) command(words ...string) string {
	w.t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
	return string(out)
}

// start starts a program that goes on; what it writes goes to a file in the world's directory.
func (w *world) start(name string, words ...string) {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // it ends with the world
}

// await waits until a command succeeds.
func (w *world) await(words ...string) {
	w.t.Helper()
	testenv.WaitFor(w.t, strings.Join(words, " "), func() bool {
		return exec.Command(words[0], words[1:]...).Run() == nil
	})
}

// engines are the programs whose memory and processor time are counted, by the name that the kernel has.
var engines = map[string]bool{
	"containerd": true, "fetcher": true, "containerd-shim": true, "dockerd": true,
	"docker-proxy": true,
}

// each calls f for each process of the engine.
func (w *world) each(f func(pid int, name string)) {
	found, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path) // PID (NAME) STATE ...
		_, rest, _ := strings.Cut(string(text), "(")
		name, state, _ := strings.Cut(rest, ") ")
		pid, perr := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && perr == nil && engines[name] && !strings.HasPrefix(state, "Z") {
			f(pid, name)
		}
	}
}

// memory is the proportional share and the anonymous part of the engine's processes, in MB, and how many there are.
func (w *world) memory() (pss, anonymous float64, processes int) {
	w.each(func(pid int, _ string) {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return // it has ended
		}
		defer f.Close() // only read
		processes++
		for s := bufio.NewScanner(f); s.Scan(); {
			words := strings.Fields(s.Text())
			if len(words) < 2 {
				continue
			}
			n, _ := strconv.ParseFloat(words[1], 64) // 0 of what is no number
			switch words[0] {
			case "Pss:":
				pss += n / 1000
			case "Anonymous:":
				anonymous += n / 1000
			}
		}
	})
	return pss, anonymous, processes
}

// use is the processor time of processes in milliseconds, and how often their threads ran.
type use struct{ ms, runs float64 }

// spent is the use of the engine's processes since they began, by name.
func (w *world) spent() map[string]use {
	out := map[string]use{}
	w.each(func(pid int, name string) {
		found, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			words := strings.Fields(string(text))
			if err != nil || len(words) != 3 {
				continue // the thread has ended
			}
			ns, _ := strconv.ParseFloat(words[0], 64)
			n, _ := strconv.ParseFloat(words[2], 64)
			out[name] = use{out[name].ms + ns/1e6, out[name].runs + n}
		}
	})
	return out
}

// kill ends the engine.
func (w *world) kill() {
	w.t.Helper()
	testenv.WaitFor(w.t, "an end of the engine", func() bool {
		left := 0
		w.each(func(pid int, _ string) {
			left++
			_ = syscall.Kill(pid, syscall.SIGTERM) // it may be gone
		})
		return left == 0
	})
	for _, file := range []string{"/run/docker.pid", "/run/docker.sock"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.t.Fatal(err)
		}
	}
}

// end kills all that runs in the world but this process.
func (w *world) end() {
	testenv.WaitFor(w.t, "an end of all processes", func() bool {
		left := 0
		found, _ := filepath.Glob("/proc/[0-9]*") // only a malformed pattern fails
		for _, path := range found {
			pid, err := strconv.Atoi(filepath.Base(path))
			if state, rerr := os.ReadFile(path + "/stat"); err != nil || rerr != nil || pid == os.Getpid() ||
				strings.Contains(string(state), ") Z ") {
				continue
			}
			left++
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		return left == 0
	})
	for _, pattern := range []string{"docker/*", "docker", "resinos/containers/*", "resinos/containers", "resinos"} {
		found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", pattern)) // only a malformed pattern fails
		for _, dir := range found {
			_ = unix.Rmdir(dir) // what is no cgroup stays
		}
	}
}
