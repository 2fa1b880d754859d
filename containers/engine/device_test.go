package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"

	"resinos/containers/engineclient"
	"resinos/mounts/testenv"
	"resinos/services/log/pipe"
)

const (
	runtimeArch = runtime.GOARCH
)

// device is a directory that stands for the device's file systems, and the engine's processes on it.
type device struct {
	t     *testing.T
	dir   string
	tools tools
}

func newDevice(t *testing.T) *device {
	t.Helper()
	d := &device{t: t, tools: findTools(t)}
	// not t.TempDir: its path is too long for a socket, and mounts below it are in the way
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	d.dir = dir
	t.Cleanup(func() {
		d.powerCut()
		d.removeCgroups()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, sub := range []string{"apps", "log"} {
		if err := os.Mkdir(d.path(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *device) path(sub ...string) string { return filepath.Join(append([]string{d.dir}, sub...)...) }

// process is one running applet.
type process struct {
	*exec.Cmd
	role string
	log  *lines
}

// lines collects what a process says.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (d *device) run(role string, args ...string) *process {
	d.t.Helper()
	p := &process{Cmd: exec.Command("/proc/self/exe", args...), role: role, log: new(lines)}
	p.Env = append(os.Environ(), roleVariable+"="+role, "PATH="+d.tools.path+":"+os.Getenv("PATH"))
	p.Stdout, p.Stderr = p.log, p.log
	if err := p.Cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	p.WaitDelay = time.Second // shims inherit the pipe
	d.t.Cleanup(func() {
		_ = p.Process.Kill() // most are dead by now
		if d.t.Failed() {
			d.t.Logf("%s said:\n%s", role, p.log)
		}
	})
	return p
}

// engine starts containerd and the manager, in one process as on the device.
func (d *device) engine() *process {
	snapshotter := "overlayfs"
	if os.Getenv("ENGINE_TEST_SNAPSHOTTER") != "" {
		snapshotter = os.Getenv("ENGINE_TEST_SNAPSHOTTER")
	}
	return d.run("containerd", "-root", d.path("data"), "-state", d.path("run"), "-socket", d.path("run", "c.sock"),
		"-cgroup", "/"+filepath.Base(d.dir), "-runtime-root", d.path("runtime"), "-manager-pipe=false",
		"-apps", d.path("apps"),
		"-loader", filepath.Join(d.tools.path, "compose"), "-loaded", d.path("loaded"), "-records", d.path("records"),
		"-hold", filepath.Join(d.tools.path, "init"),
		"-health", d.path("health"),
		"-shutdown", d.path("shutdown"), "-control", d.path("apps.sock"), "-down", d.path("down.json"),
		"-status", d.path("apps.json"), "-log-pipes", d.path("log"),
		"-runtime", d.tools.runtime,
		"-init", d.tools.init, "-inputs", d.path("container", "inputs"), "-shm", d.path("container", "shm"),
		"-registries", d.path("registries"), "-volumes", d.path("volumes"),
		"-networks", d.path("networks.json"), "-network-files", d.path("container",
			"networks"), "-snapshotter", snapshotter,
		"-resolv", d.path("device-resolv.conf"), "-container-resolv", d.path("container", "resolv.conf"))
}

// end sends sig and waits.
func (d *device) end(p *process, sig syscall.Signal) {
	d.t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
	_ = p.Wait() // a killed process has no good status
}

// app writes an app and, unless image is empty, its preloaded image.
func (d *device) app(name, compose, image string) {
	d.t.Helper()
	if err := os.MkdirAll(d.path("apps", name, "images"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.path("apps", name, "compose.yaml"), []byte(compose), 0o644); err != nil {
		d.t.Fatal(err)
	}
	if image != "" {
		busyboxImage(d.t, d.tools.busybox, d.path("apps", name, "images", "image.tar"), image, name)
	}
}

// output follows one stream of a container.
type output struct {
	t    *testing.T
	next chan string
}

func (d *device) output(id, stream string) *output {
	d.t.Helper()
	f, err := pipe.Open(d.path("log"), pipe.Source{Kind: pipe.Container, Name: id, Stream: stream})
	if err != nil {
		d.t.Fatal(err)
	}
	o := &output{t: d.t, next: make(chan string, 1000)}
	go func() { // ends with the process: the pipe is open for writing here too and never ends
		for s := bufio.NewScanner(f); s.Scan(); {
			o.next <- s.Text()
		}
	}()
	return o
}

// await returns the first line that contains text.
func (o *output) await(text string) string {
	o.t.Helper()
	deadline := time.After(testenv.Patience())
	for {
		select {
		case line := <-o.next:
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			o.t.Fatalf("no output with %q within %v", text, testenv.Patience())
		}
	}
}

func (o *output) drain() {
	for len(o.next) > 0 {
		<-o.next
	}
}

// eventually waits until f holds.
func (d *device) eventually(what string, f func() bool) {
	d.t.Helper()
	defer func() {
		if d.t.Failed() {
			d.t.Logf("waited for %s; left:\n%s", what, d.left())
		}
	}()
	testenv.WaitFor(d.t, what, f)
}

// started waits until the manager knows that the container runs; its output comes a moment earlier.
func (d *device) started(id string) {
	d.t.Helper()
	d.eventually("the start of "+id+" is recorded", func() bool {
		text, err := os.ReadFile(d.path("records", id+".json"))
		return err == nil && strings.Contains(string(text), `"running":true`)
	})
}

// pid is that of the container's program, or 0.
func (d *device) pid(id string) int {
	client, err := containerd.New(d.path("run", "c.sock"), containerd.WithTimeout(testenv.Patience()))
	if err != nil {
		return 0
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), engineclient.Namespace),
		testenv.Patience())
	defer cancel()
	reply, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return 0
	}
	return int(reply.Process.Pid)
}

// labels are those of a container, nil while there is none.
func (d *device) labels(id string) map[string]string {
	client, err := containerd.New(d.path("run", "c.sock"), containerd.WithTimeout(testenv.Patience()))
	if err != nil {
		return nil
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), engineclient.Namespace),
		testenv.Patience())
	defer cancel()
	c, err := client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil
	}
	return c.Labels
}

// left is what containers have in processes, directories and cgroups.
func (d *device) left() string {
	var out []string
	for _, pid := range pids() {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(text), "containerd-shim-runc-v2") && alive(pid) {
			out = append(out, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	base := filepath.Base(d.dir)
	for _, pattern := range []string{
		d.path("run", "*", engineclient.Namespace, "*"), d.path("data", "*", engineclient.Namespace, "*"),
		d.path("runtime", "*", "[^.]*"), d.path("records", "*"), d.path("run", "s", "*"),
		"/sys/fs/cgroup/*/" + base + "/*", "/sys/fs/cgroup/" + base + "/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			d.t.Error(err)
		}
		for _, path := range found {
			var fs unix.Statfs_t
			info, err := os.Stat(path)
			if err == nil && strings.HasPrefix(path, "/sys/fs/cgroup/") && (!info.IsDir() || unix.Statfs(path,
				&fs) != nil || fs.Type == unix.TMPFS_MAGIC) {
				continue // a file of a cgroup, or what crun makes where no cgroups are mounted
			}
			out = append(out, path)
		}
	}
	return strings.Join(out, "\n")
}

func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !bytes.Contains(state, []byte(") Z "))
}

// powerCut kills all that runs in the namespace but the tests and their first process, and takes away what lies in
// /run.
func (d *device) powerCut() {
	d.t.Helper()
	self := os.Getpid()
	testenv.WaitFor(d.t, "an end of all processes", func() bool {
		left := 0
		for _, pid := range pids() {
			if pid != 1 && pid != self && alive(pid) {
				left++
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		}
		return left == 0
	})
	d.unmount()
	for _, sub := range []string{"run", "records", "runtime", "container", "health", "shutdown", "apps.json",
		"apps.sock"} {
		if err := os.RemoveAll(d.path(sub)); err != nil {
			d.t.Error(err)
		}
	}
}

// removeCgroups takes away the cgroups of killed containers, which the host would keep: below each
// controller with version 1, at the top with version 2.
func (d *device) removeCgroups() {
	base := filepath.Base(d.dir)
	for _, pattern := range []string{"*/" + base + "/*", "*/" + base, base + "/*", base} { // innermost first
		found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", pattern))
		if err != nil {
			d.t.Error(err)
		}
		for _, dir := range found {
			_ = unix.Rmdir(dir) // the files of a cgroup match too, and stay
		}
	}
}
