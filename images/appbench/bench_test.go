package appbench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/boards"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

// What TestWorld is to be, and where it writes its figures.
const worldVariable, dirVariable, binVariable = "APPBENCH_WORLD", "APPBENCH_DIR", "APPBENCH_BIN"

// figures are what one world measured, by row of the table.
type figures map[string]float64

// TestAppBench runs both worlds in turn and prints a table of the medians.
func TestAppBench(t *testing.T) {
	if !testenv.Figures() || os.Getenv(worldVariable) != "" {
		return // it measures for minutes: make bench-apps
	}
	for _, program := range []string{"patchelf", "iptables", "dnsmasq", "ip"} {
		testenv.NeedProgram(t, program)
	}
	board, err := boards.Load("qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Abs(filepath.Join("..", "..", "build", "appbench"))
	if err != nil {
		t.Fatal(err)
	}
	bins := map[string]string{"ours": filepath.Join(base, "ours"), "docker": filepath.Join(base, "docker")}
	if err := os.RemoveAll(bins["ours"]); err != nil {
		t.Fatal(err)
	}
	if err := ourPrograms(filepath.Join("..", "..", "bin", "amd64"), bins["ours"]); err != nil {
		t.Fatal(err)
	}
	probe := filepath.Join(base, "probe")
	build := exec.Command("go", "build", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	versions, err := fetchPeer(t.Context(), board, filepath.Join("..", "..", ".cache"), bins["docker"])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(versions)
	t.Logf("peer: %s", strings.Join(versions, ", "))
	rounds, _ := strconv.Atoi(os.Getenv("RESINOS_ROUNDS"))
	all := map[string][]figures{}
	for range max(rounds, 1) {
		for _, which := range []string{"ours", "docker"} {
			all[which] = append(all[which], runWorld(t, which, base, bins[which]))
		}
	}
	report(t, all)
}

// ourPrograms puts the programs of the device into a directory, under the names that they are called by.
func ourPrograms(from, to string) error {
	from, err := filepath.Abs(from)
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	if err != nil {
		return err
	}
	for name, program := range map[string]string{"containerd": "engine", "fetcher": "engine",
		"compose": "compose", "osctl": "init", "init": "init", "containerd-shim-runc-v2": "containerd-shim-runc-v2"} {
		if err := os.Symlink(filepath.Join(from, program), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	linkers, _ := filepath.Glob(filepath.Join(from, "crun", "usr", "lib", "*-linux-gnu", "ld-linux-*.so.*"))
	if len(linkers) != 1 {
		return fmt.Errorf("there is no crun below %s: run make bin/amd64/crun/ready", from)
	}
	text, err := os.ReadFile(filepath.Join(from, "crun", "usr", "bin", "crun"))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "crun"), text, 0o755)
	}
	if err != nil {
		return err
	}
	return findLibraries(filepath.Join(to, "crun"), linkers[0])
}

// runWorld runs TestWorld of this test binary in namespaces of its own.
func runWorld(t *testing.T, which, base, bin string) figures {
	t.Helper()
	dir, err := os.MkdirTemp(base, which+"-run-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestWorld$", "-test.v", "-test.timeout", "1h")
	cmd.Env = append(os.Environ(), worldVariable+"="+which, dirVariable+"="+dir, binVariable+"="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET}
	runtime.LockOSThread() // Pdeathsig is of the thread
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", which, dir, err, out)
	}
	var f figures
	text, err := os.ReadFile(filepath.Join(dir, "figures.json"))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", which, err, out)
	}
	t.Logf("%s", out)
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
	return f
}

func report(t *testing.T, all map[string][]figures) {
	rows := map[string]bool{}
	for _, list := range all {
		for _, f := range list {
			maps.Copy(rows, f.rows())
		}
	}
	var out strings.Builder
	out.WriteString("\n| what | ours | Docker | ratio |\n| --- | --- | --- | --- |\n")
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		var median [2]float64
		for i, which := range []string{"ours", "docker"} {
			var list []float64
			for _, f := range all[which] {
				list = append(list, f[row])
			}
			slices.Sort(list)
			median[i] = list[len(list)/2]
		}
		fmt.Fprintf(&out, "| %s | %.4g | %.4g | %.2f |\n", row, median[0], median[1], median[0]/median[1])
	}
	t.Log(out.String())
}

func (f figures) rows() map[string]bool {
	out := map[string]bool{}
	for row := range f {
		out[row] = true
	}
	return out
}

// TestWorld measures in one world. TestAppBench runs it.
func TestWorld(t *testing.T) {
	which := os.Getenv(worldVariable)
	if which == "" {
		return // TestAppBench makes its namespaces
	}
	w := enter(t, os.Getenv(dirVariable), os.Getenv(binVariable), which == "docker")
	defer w.end()
	defer func() {
		if t.Failed() {
			for _, name := range []string{"containerd", "dockerd"} {
				text, _ := os.ReadFile(filepath.Join(w.dir, name+".log"))
				t.Logf("%s said:\n%s", name, text[max(0, len(text)-5000):])
			}
		}
	}()
	w.env()
	registry := pulltest.New(t)
	registry.Settings("/mnt/data/registries")
	m := &measure{world: w, f: figures{}, small: smallImage(t, registry), large: largeImage(t, registry)}
	w.boot()
	m.pull(m.small)
	for _, phase := range []struct {
		name string
		run  func()
	}{{"pulls", m.pulls}, {"starts", m.starts}, {"traffic", m.traffic}, {"rest", m.rest}} {
		if only := os.Getenv("RESINOS_ONLY"); only == "" || only == phase.name {
			phase.run()
		}
	}
	text, err := json.Marshal(m.f)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "figures.json"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// smallImage holds busybox and the probe.
func smallImage(t *testing.T, r *pulltest.Registry) string {
	t.Helper()
	files := map[string][]byte{}
	for name, path := range map[string]string{"bin/busybox": "/bin/busybox", "bin/sh": "/bin/busybox",
		"bin/sleep": "/bin/busybox", "bin/probe": probeFile()} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	return r.Push("bench/small", "1", "amd64", pulltest.Tar(t, files, 0o755)).Name
}

const largeSize = 100 << 20

func largeImage(t *testing.T, r *pulltest.Registry) string {
	t.Helper()
	var layers [][]byte
	for i := range 4 {
		layers = append(layers, pulltest.Layer(t, fmt.Sprintf("file%d", i), largeSize/4))
	}
	return r.Push("bench/large", "1", "amd64", layers...).Name
}

// measure is what is measured in a world.
type measure struct {
	*world
	f            figures
	small, large string
}

func (m *measure) pulls() {
	var times []float64
	for range 3 {
		begin := time.Now()
		m.pull(m.large)
		unix.Sync()
		times = append(times, time.Since(begin).Seconds())
		m.remove(m.large)
	}
	m.f["pull of an image of 100 MB in four layers, s"] = median(times)
	from := filepath.Join(m.dir, "large")
	if err := os.WriteFile(from, pulltest.Layer(m.t, "x", largeSize), 0o644); err != nil {
		m.t.Fatal(err)
	}
	unix.Sync()
	times = nil
	for range 3 {
		begin := time.Now()
		m.command("cp", from, from+".copy")
		unix.Sync()
		times = append(times, time.Since(begin).Seconds())
	}
	m.f["beside the pull: cp and sync of 100 MB, s"] = median(times)
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// lines follows a FIFO into which containers write.
func (m *measure) lines(dir string) *bufio.Scanner {
	m.t.Helper()
	path := filepath.Join(dir, "out", "fifo")
	if err := unix.Mkfifo(path, 0o666); err != nil {
		m.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	return bufio.NewScanner(f)
}

// services is a compose file with n services that write a line when they start.
func (m *measure) services(n int) string {
	const one = "  s%d:\n    image: %s\n    volumes: [\"./out:/out\"]\n" +
		"    command: [/bin/sh, -c, \"echo up > /out/fifo; exec sleep 100000\"]\n"
	out := "services:\n"
	for i := range n {
		out += fmt.Sprintf(one, i, m.small)
	}
	return out
}

// started is how long it takes from a new compose file until each of its n services has written its line.
func (m *measure) started(name string, n int) float64 {
	dir := m.project(name, "services: {}\n")
	lines := m.lines(dir)
	begin := time.Now()
	m.project(name, m.services(n))
	done := make(chan struct{})
	go func() { m.up(name, dir); close(done) }()
	for range n {
		if !lines.Scan() {
			m.t.Fatal(lines.Err())
		}
	}
	took := time.Since(begin).Seconds()
	<-done
	return took
}

func (m *measure) starts() {
	for _, n := range []int{1, 10} {
		var times []float64
		for range 5 {
			name := fmt.Sprintf("app%d", n)
			times = append(times, m.started(name, n))
			m.down(name, filepath.Dir(filepath.Join(m.appsDir(), name, "x")))
		}
		m.f[fmt.Sprintf("compose file of %02d services → first output of all, s", n)] = median(times)
	}
	m.started("base", 1)
	var times []float64
	for range 7 {
		words := m.single("base", "s0", m.small, "/bin/busybox", "echo", "out")
		begin := time.Now()
		out := m.command(words...)
		if times = append(times, time.Since(begin).Seconds()); !strings.Contains(out, "out") {
			m.t.Fatalf("%v: %q", words, out)
		}
	}
	m.f["a command in a new container (osctl run, docker run --rm), s"] = median(times)
	times = nil
	for range 7 {
		begin := time.Now()
		m.command(m.inside("base", "s0", "/bin/busybox", "true")...)
		times = append(times, time.Since(begin).Seconds())
	}
	m.f["a command in a container that runs (exec), s"] = median(times)
	m.down("base", filepath.Join(m.appsDir(), "base"))
}

func (m *measure) appsDir() string {
	if m.peer {
		return "/mnt/docker/apps"
	}
	return "/mnt/data/apps"
}

const served = `services:
  web:
    image: IMAGE
    command: [/bin/probe, serve, ":80"]
    ports: ["8080:80"]
  client:
    image: IMAGE
    command: [/bin/sleep, "100000"]
    extra_hosts: ["device:host-gateway"]
`

func (m *measure) traffic() {
	dir := m.project("traffic", strings.ReplaceAll(served, "IMAGE", m.small))
	m.up("traffic", dir)
	probe := probeFile()
	outside := []string{"ip", "netns", "exec", "outside", probe, "load", "http://10.99.0.1:8080/"}
	m.await(append(outside, "keep", "8")...)
	for row, words := range map[string][]string{
		"requests a second, connections kept":                append(outside, "keep", "20000"),
		"requests a second, each on a connection of its own": append(outside, "close", "5000"),
	} {
		m.f[row] = m.probed(words).PerSecond
	}
	m.await(m.inside("traffic", "client", "/bin/probe", "names", "", "web", "8")...)
	r := m.probed(m.inside("traffic", "client", "/bin/probe", "names", "", "web", "40000"))
	m.f["names a second, of a container of the network"] = r.PerSecond
	m.f["names, p99, ms"] = r.P99
	// dnsmasq answers on the device too, on the address of the same bridge.
	hosts := m.command(m.inside("traffic", "client", "/bin/busybox", "grep", "device", "/etc/hosts")...)
	m.start("dnsmasq", "dnsmasq", "-k", "-C", "/dev/null", "--port=5353", "--no-resolv", "--no-hosts",
		"--address=/web/10.0.0.1", "--user=root", "--pid-file=", "--bind-interfaces",
		"--listen-address="+strings.Fields(hosts)[0])
	ask := m.inside("traffic", "client", "/bin/probe", "names", "device:5353", "web")
	m.await(append(slices.Clone(ask), "8")...)
	r = m.probed(append(ask, "40000"))
	m.f["beside the names: dnsmasq, a second"] = r.PerSecond
	m.f["beside the names: dnsmasq, p99, ms"] = r.P99
	m.down("traffic", dir)
}

// probeFile is the probe, which TestAppBench has built.
func probeFile() string { return filepath.Join(filepath.Dir(os.Getenv(dirVariable)), "probe") }

type probed struct {
	PerSecond, P99 float64
}

func (m *measure) probed(words []string) (r probed) {
	m.t.Helper()
	text := m.command(words...)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		m.t.Fatalf("%v: %v\n%s", words, err, text)
	}
	return r
}

// resting is how long the engine is watched at rest.
const resting = 30 * time.Second

func (m *measure) rest() {
	m.kill() // what pulls and starts have left in memory does not count
	m.boot()
	have := 0
	for _, step := range []struct{ apps, services, total int }{{1, 1, 1}, {1, 9, 10}, {4, 10, 50}} {
		for i := range step.apps {
			m.started(fmt.Sprintf("rest%dx%d", step.total, i), step.services)
			have += step.services
		}
		if have != step.total {
			m.t.Fatalf("%d containers, want %d", have, step.total)
		}
		testenv.Never(m.t, 5*time.Second, "", func() bool { return false }) // until what the starts left is done
		pss, anonymous, processes := m.memory()
		m.f[fmt.Sprintf("memory, %02d containers: proportional share, MB", have)] = pss
		m.f[fmt.Sprintf("memory, %02d containers: anonymous, MB", have)] = anonymous
		m.f[fmt.Sprintf("processes, %02d containers", have)] = float64(processes)
	}
	testenv.Never(m.t, 20*time.Second, "", func() bool { return false })
	before := m.spent()
	testenv.Never(m.t, resting, "", func() bool { return false })
	var all use
	for name, after := range m.spent() {
		one := use{after.ms - before[name].ms, after.runs - before[name].runs}
		all = use{all.ms + one.ms, all.runs + one.runs}
		m.t.Logf("at rest: %s: %.1f ms, %.0f times", name, one.ms, one.runs)
	}
	m.f["at rest with 50 containers: processor time in 30 s, ms"] = all.ms
	m.f["at rest with 50 containers: how often a thread ran in 30 s"] = all.runs
}
