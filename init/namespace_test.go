package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/bootreport"
	"resinos/services/control"
)

// setupRoot names the directory in which the re-executed test prepares a root and becomes PID 1 of it.
const setupRoot = "RESINOS_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(setupRoot); root != "" && os.Getpid() == 1 {
		fmt.Fprintln(os.Stderr, "become init:", becomeInit(root))
		os.Exit(1)
	}
	code := m.Run()
	for _, dir := range builds.dirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// builds are the binaries that the tests share, by package and build tags.
var builds struct {
	mu   sync.Mutex // guards the rest
	path map[string]string
	dirs []string
}

// built returns the real binary, made once for all tests.
func built(t testing.TB, tags string) string { t.Helper(); return program(t, ".", tags) }

// program is the binary of a package, built once for all tests.
func program(t testing.TB, pkg, tags string) string {
	t.Helper()
	key := pkg + " " + tags
	builds.mu.Lock()
	defer builds.mu.Unlock()
	if path := builds.path[key]; path != "" {
		return path
	}
	dir, err := os.MkdirTemp("", "init-test-")
	if err != nil {
		t.Fatal(err)
	}
	builds.dirs = append(builds.dirs, dir)
	path := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-tags="+tags, "-o", path, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if builds.path == nil {
		builds.path = map[string]string{}
	}
	builds.path[key] = path
	return path
}

// guest is a PID 1 in name spaces of its own.
type guest struct {
	t   *testing.T
	cmd *exec.Cmd

	mu      sync.Mutex // guards console and root
	console bytes.Buffer
	root    *os.File      // the guest's root, nil until PID 1 is seen to listen
	ended   chan struct{} // closed when PID 1 is gone
	status  syscall.WaitStatus
}

// startGuest boots the real binary with the given services (name -> TOML).
func startGuest(t *testing.T, services map[string]string) *guest {
	t.Helper()
	return startBinary(t, "", services, "")
}

// startBinary is startGuest for a binary with build tags, and with orders for its fault points.
func startBinary(t *testing.T, tags string, services map[string]string, faults string) *guest {
	t.Helper()
	testenv.NeedRoot(t, "namespaces")
	busybox := testenv.NeedProgram(t, "busybox")
	root := t.TempDir()
	binary := built(t, tags)
	staged := t.TempDir()
	for name, text := range services {
		if err := os.WriteFile(filepath.Join(staged, name+".toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	master, slave, err := pty.Open()
	if err != nil {
		testenv.Lacking(t, "a pseudo terminal: %v", err)
	}
	g := &guest{t: t, ended: make(chan struct{})}
	g.cmd = exec.Command("/proc/self/exe", "-test.run=^$")
	g.cmd.Env = []string{setupRoot + "=" + root, "BINARY=" + binary, "BUSYBOX=" + busybox, "SERVICES=" + staged,
		"CONSOLE=" + slave.Name(), "FAULTS=" + faults}
	if services["netd"] != "" {
		g.cmd.Env = append(g.cmd.Env, "NETD="+program(t, "../net/network", ""))
	}
	g.cmd.Stdout, g.cmd.Stderr = slave, slave
	g.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL,
	}
	if testenv.OwnCgroup(t, g.cmd) { // without, the guest finds no cgroups, and must live with that
		g.cmd.Env = append(g.cmd.Env, "CGROUP=1")
	}
	if err := g.cmd.Start(); err != nil {
		testenv.Lacking(t, "namespaces: %v", err)
	}
	// The slave stays open here: reading the master ends with an error whenever nobody has it open.
	go g.read(master)
	go g.wait(slave)
	t.Cleanup(func() {
		g.cmd.Process.Kill()
		<-g.ended
		slave.Close()
		master.Close()
		if g.root != nil {
			g.root.Close()
		}
		if t.Failed() {
			t.Logf("%v; console:\n%s", g.cmd.ProcessState, g.text())
		}
	})
	return g
}

func (g *guest) read(master io.Reader) {
	in := bufio.NewReader(master)
	for {
		line, err := in.ReadString('\n')
		g.mu.Lock()
		g.console.WriteString(strings.ReplaceAll(line, "\r", ""))
		g.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// lastLine is behind all that PID 1 has said.
const lastLine = "-- PID 1 has ended --"

// wait closes ended once PID 1 has ended and all that it said is in the console.
func (g *guest) wait(console io.Writer) {
	defer close(g.ended)
	g.cmd.Wait()
	g.status, _ = g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	fmt.Fprintf(console, "\n%s\n", lastLine)
	// whoever then misses something says so
	_ = testenv.Await(lastLine, func() bool { return strings.Contains(g.text(), lastLine) })
}

func (g *guest) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.console.String()
}

// expect waits until the console shows text.
func (g *guest) expect(text string) {
	g.t.Helper()
	g.until("console shows "+text, func() bool { return strings.Contains(g.text(), text) })
}

func (g *guest) until(what string, is func() bool) {
	g.t.Helper()
	testenv.WaitFor(g.t, what, func() bool {
		over := false
		select {
		case <-g.ended:
			over = true
		default:
		}
		if is() {
			return true
		}
		if over {
			g.t.Fatalf("PID 1 ended (%#x) before: %s", uint32(g.status), what)
		}
		return false
	})
}

// socket is the path of PID 1's control socket, through its root as the kernel shows it. The root is opened once:
// /proc/PID/root has no target for a moment of each re-exec, when the thread that executes has ended all others and
// has not taken the place of the first one yet.
func (g *guest) socket() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.root == nil {
		dir := fmt.Sprintf("/proc/%d/root", g.cmd.Process.Pid)
		root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return dir + control.SocketPath
		}
		var st unix.Stat_t
		if unix.Fstatat(int(root.Fd()), strings.TrimPrefix(control.SocketPath, "/"), &st, 0) != nil {
			root.Close() // it may be the host's still
			return dir + control.SocketPath
		}
		g.root = root
	}
	return fmt.Sprintf("/proc/self/fd/%d%s", g.root.Fd(), control.SocketPath)
}

// call asks PID 1's control socket.
func (g *guest) call(op string, args, result any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), testenv.Patience())
	defer cancel()
	return g.callIn(ctx, op, args, result)
}

func (g *guest) callIn(ctx context.Context, op string, args, result any) error {
	return control.Call(ctx, g.socket(), op, args, result)
}

// end waits for PID 1's end and wants it by the signal with which the kernel answers reboot(2) in a pid name space.
func (g *guest) end(want syscall.Signal) {
	g.t.Helper()
	testenv.Receive(g.t, "the end of PID 1", g.ended)
	if !g.status.Signaled() || g.status.Signal() != want {
		g.t.Errorf("PID 1 ended with %#x (%v), want signal %v", uint32(g.status), g.status.Signal(), want)
	}
}

// becomeInit prepares a root on a tmpfs and executes init in it. Nothing of the host's file systems may be attached
// inside: the shutdown makes file systems read-only, and that reaches through a bind to the whole file system.
func becomeInit(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "var", "etc", "old", "mnt/boot", "mnt/state",
		"mnt/data", "mnt/sysroot", "usr/sbin", "usr/bin", "usr/lib/resinos/services", "home/root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", root+"/dev", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for name, minor := range map[string]uint32{"null": 3, "kmsg": 3, "zero": 5} {
		if err := unix.Mknod(root+"/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
	}
	if err := os.WriteFile(root+"/dev/console", nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(os.Getenv("CONSOLE"), root+"/dev/console", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		return err
	}
	// The host's kernel settings and its reboot key are out of reach.
	if err := errors.Join(unix.Mount(root+"/proc/sys", root+"/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", root+"/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		return fmt.Errorf("shield the host: %w", err)
	}
	if err := unix.Mount(root+"/dev/null", root+"/proc/sysrq-trigger", "", unix.MS_BIND, ""); err != nil &&
		err != unix.ENOENT {
		return fmt.Errorf("shield the host: %w", err)
	}
	if err := unix.Mount("sysfs", root+"/sys", "sysfs", unix.MS_RDONLY, ""); err != nil {
		return err
	}
	// Without a cgroup of our own a tmpfs stands there, so that PID 1 cannot reach the host's groups.
	kind := "tmpfs"
	if os.Getenv("CGROUP") != "" {
		kind = "cgroup2"
	}
	if err := unix.Mount(kind, root+"/sys/fs/cgroup", kind, 0, ""); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := fill(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, root+"/old"); err != nil {
		return err
	}
	if err := errors.Join(unix.Chdir("/"), unix.Unmount("/old", unix.MNT_DETACH)); err != nil {
		return err
	}
	return unix.Exec("/usr/sbin/init", []string{"/usr/sbin/init"}, nil)
}

func fill(root string) error {
	files := map[string]string{"usr/sbin/init": os.Getenv("BINARY"), "usr/bin/busybox": os.Getenv("BUSYBOX")}
	if netd := os.Getenv("NETD"); netd != "" {
		files["usr/sbin/netd"] = netd
	}
	services, err := filepath.Glob(os.Getenv("SERVICES") + "/*.toml")
	if err != nil {
		return err
	}
	for _, s := range services {
		files["usr/lib/resinos/services/"+filepath.Base(s)] = s
	}
	for to, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, to), content, 0o755); err != nil {
			return err
		}
	}
	if faults := os.Getenv("FAULTS"); faults != "" {
		if err := os.WriteFile(root+"/etc/resinos-faults", []byte(faults), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(root+"/etc/os-release", []byte("ID=resinos\nVARIANT_ID=development\n"), 0o644),
		os.WriteFile(root+"/etc/hostname", nil, 0o644), os.WriteFile(root+"/etc/machine-id", nil, 0o644))
}

// service is a definition that runs a shell script.
func service(keys, script string) string {
	return fmt.Sprintf("command = [\"/usr/bin/busybox\", \"sh\", \"-c\", %q]\n%s\n", script, keys)
}

func TestBootWithoutAnyDisk(t *testing.T) {
	g := startGuest(t, map[string]string{
		"alive":  service("", "echo alive >/dev/console; exec busybox sleep 1000"),
		"broken": "command = 3\n",
	})
	g.expect("alive")
	var report bootreport.Report
	if err := g.call("boot", nil, &report); err != nil {
		t.Fatal(err)
	}
	results := map[string]string{}
	for _, s := range report.Steps {
		if s.Stage != bootreport.StageRoot || s.Start <= 0 || s.Result == bootreport.ResultFatal {
			t.Errorf("step %+v", s)
		}
		results[s.Name] = s.Result
	}
	for name, want := range map[string]string{"attach state": bootreport.ResultDegraded,
		"attach data": bootreport.ResultDegraded, "attach boot": bootreport.ResultDegraded,
		"load services": bootreport.ResultDegraded, "read config.json": bootreport.ResultOK,
		"bind persistent paths": bootreport.ResultOK, "identity": bootreport.ResultDegraded,
		"hostname": bootreport.ResultOK, "loopback": bootreport.ResultOK} {
		if results[name] != want {
			t.Errorf("step %s is %q, want %q", name, results[name], want)
		}
	}
	for _, name := range []string{bootreport.MilestoneRoot, bootreport.MilestoneServices} {
		if report.Milestones[name] <= 0 {
			t.Errorf("milestone %s is missing: %v", name, report.Milestones)
		}
	}
	if got, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/hostname", g.cmd.Process.Pid)); len(got) != len(
		"0123456\n") {
		t.Errorf("host name %q, want seven digits of a uuid that lasts for this boot", got)
	}
	if got, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/machine-id", g.cmd.Process.Pid)); len(got) != 33 {
		t.Errorf("machine id %q", got)
	}
	for i := range 3 {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", g.cmd.Process.Pid, i)); err != nil ||
			!strings.HasPrefix(link, "/dev/") {
			t.Errorf("descriptor %d is %q, %v, want a device", i, link, err)
		}
	}
	if err := g.call("milestone", map[string]any{"name": "container_output", "at": 0.001}, nil); err != nil {
		t.Error(err)
	}
	g.expect("resinos: container_output 0.00s")
	if err := g.call("milestone", map[string]any{"name": "x\x1b[2J"}, nil); err == nil {
		t.Error("an escape sequence is a milestone")
	}
	var plan []bootreport.PlannedStep
	if err := g.call("plan", nil, &plan); err != nil || len(plan) != len(report.Steps) {
		t.Errorf("plan has %d steps, %v, the boot had %d", len(plan), err, len(report.Steps))
	}
	if memory, err := anonymous(g.cmd.Process.Pid); err != nil || memory == 0 || memory > 4<<10 {
		t.Errorf("PID 1 has %d KiB of its own, %v, want at most 4 MiB", memory, err)
	} else {
		t.Logf("PID 1 has %d KiB of its own", memory)
	}
}

// anonymous is the memory that the process has for itself, in KiB. The pages of the binary are left out: on a device
// all the applets share them, while here PID 1 alone maps them, from a tmpfs, and they would all count as its own.
func anonymous(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "Anonymous:"); found {
			var n int
			_, err := fmt.Sscanf(value, "%d", &n)
			return n, err
		}
	}
	return 0, err
}

func TestAllSignalsSurvived(t *testing.T) {
	const power = "10|12|15" // USR1, USR2 and TERM do something: TestPowerSignals
	g := startGuest(t, map[string]string{
		"signals": service(`restart = "never"`, "i=1; while [ $i -le 64 ]; do case $i in "+power+
			") ;; *) kill -$i 1 ;; esac; i=$((i+1)); done; echo sent-all >/dev/console; exec busybox sleep 1000"),
		"forked": service("", "exec busybox sleep 1000"),
	})
	g.expect("sent-all")
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP: // from outside they act on any process
		case syscall.SIGINT: // a second one reboots: TestSecondInterruptReboots
		case syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM:
		default:
			if err := g.cmd.Process.Signal(n); err != nil {
				t.Errorf("signal %d: %v", n, err)
			}
		}
	}
	// Go has no handler for these by itself; PID 1 died of them when it started a process in the same moment.
	for i := range 3000 {
		if err := g.cmd.Process.Signal(syscall.Signal(32 + i%3)); err != nil {
			t.Fatalf("signal %d: %v", 32+i%3, err)
		}
		if i%100 == 0 {
			// it forks; how the restart goes does not matter
			g.call("restart", map[string]string{"name": "forked"}, nil)
		}
	}
	for range 20 {
		if err := g.call("boot", nil, nil); err != nil {
			t.Fatalf("after all signals: %v", err)
		}
	}
}

// TestPowerSignals sends what busybox's reboot, poweroff and halt send.
func TestPowerSignals(t *testing.T) {
	for sent, ended := range map[syscall.Signal]syscall.Signal{
		syscall.SIGTERM: syscall.SIGHUP, // how the kernel says "restart" to the parent name space
		syscall.SIGUSR1: syscall.SIGINT, // and how it says "power off"
		syscall.SIGUSR2: syscall.SIGINT,
	} {
		t.Run(sent.String(), func(t *testing.T) {
			g := startGuest(t, nil)
			g.expect("services ")
			g.cmd.Process.Signal(sent)
			g.end(ended)
		})
	}
}

func TestSecondInterruptReboots(t *testing.T) {
	g := startGuest(t, nil)
	g.expect("services ")
	g.cmd.Process.Signal(syscall.SIGINT)
	g.expect("press again")
	g.cmd.Process.Signal(syscall.SIGINT)
	g.end(syscall.SIGHUP) // how the kernel says "restart" to the parent name space
}

func TestNoZombies(t *testing.T) {
	g := startGuest(t, map[string]string{
		"storm": service("", "i=0; while [ $i -lt 100 ]; do busybox setsid busybox sleep 0.05 & i=$((i+1)); done; "+
			"wait; (busybox setsid busybox sleep 0.1 &); echo storm-over >/dev/console; exec busybox sleep 1000"),
	})
	g.expect("storm-over")
	g.until("no zombie", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*/stat", g.cmd.Process.Pid))
		for _, path := range stats {
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), ") Z ") {
				return false
			}
		}
		return len(stats) > 1
	})
}

func TestShutdownOrder(t *testing.T) {
	script := func(name string) string {
		return "trap 'echo stop-" + name + " >/dev/console; exit 0' TERM; echo start-" + name +
			" >/dev/console; while :; do busybox sleep 0.05; done"
	}
	g := startGuest(t, map[string]string{
		"a": service("", script("a")),
		"b": service(`needs = ["a"]`, script("b")),
		"c": service(`needs = ["b"]`, script("c")),
		// A daemon that leaves its service's control and ignores SIGTERM must not hold up the shutdown.
		"d": service("", "trap '' TERM; (busybox setsid sh -c \"trap '' TERM; while :; do busybox sleep 1; done\" "+
			"&); echo start-d >/dev/console; exec busybox sleep 1000") + "stop-timeout = \"1s\"\n",
	})
	for _, name := range []string{"a", "b", "c", "d"} {
		g.expect("start-" + name)
	}
	if err := g.call("power", map[string]string{"action": "explode"}, nil); err == nil {
		t.Error("an unknown power action is taken")
	}
	if err := g.call("power", map[string]string{"action": "poweroff"}, nil); err != nil {
		t.Fatal(err)
	}
	g.expect("power goes off")
	g.end(syscall.SIGINT) // "power off"
	text := g.text()
	last := 0
	for _, want := range []string{"stopping services", "stop-c", "stop-b", "stop-a", "power goes off"} {
		at := strings.Index(text, want)
		if at < last {
			t.Errorf("%q is missing or comes too early", want)
		}
		last = max(at, last)
	}
}
