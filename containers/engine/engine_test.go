package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/containers/appstatus"
	"resinos/containers/engineclient"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// unmount takes away what is mounted below the device, innermost first.
func (d *device) unmount() {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.t.Error(err)
	}
	var below []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], d.dir+"/") {
			below = append(below, f[4])
		}
	}
	for i := len(below) - 1; i >= 0; i-- {
		if err := unix.Unmount(below[i], unix.MNT_DETACH); err != nil {
			d.t.Errorf("unmount %s: %v", below[i], err)
		}
	}
}

const hello = `services:
  web:
    image: busybox
    command: ["/bin/sh", "-c", "echo out $$GREETING $$FROM; echo err >&2; while :; do sleep 1; done"]
    environment: {GREETING: hello}
    restart: always
    network_mode: host
`

func TestContainerLivesThroughTheEngine(t *testing.T) {
	d := newDevice(t)
	d.app("hello", hello, "busybox")
	d.app("broken", "services:\n  web:\n    image: [\n", "")
	out, errs := d.output("hello.web", "stdout"), d.output("hello.web", "stderr")
	begin := time.Now()
	engine := d.engine()
	if line := out.await("out"); line != "out hello image" {
		t.Errorf("first line %q", line)
	}
	t.Logf("both started → first output: %v", time.Since(begin))
	errs.await("err")
	if want := d.path("apps", "broken", "compose.yaml") + ":3: "; !strings.Contains(engine.log.String(), want) {
		t.Errorf("the log does not name %q:\n%s", want, engine.log)
	}
	pid := d.pid("hello.web")
	d.eventually("the status tells of both apps", func() bool {
		s, err := appstatus.Read(d.path("apps.json"))
		return err == nil && len(s.Apps) == 2 && s.Apps[0].Cause == appstatus.NotUnderstood && s.Apps[1].Well()
	})

	t.Run("killed", func(t *testing.T) {
		for range 3 {
			d.end(engine, syscall.SIGKILL)
			if !alive(pid) {
				t.Fatal("the container ended with containerd")
			}
			engine = d.engine()
			d.eventually("the task is known again", func() bool { return d.pid("hello.web") == pid })
		}
		out.drain()
		d.eventually("apps are read", func() bool { return strings.Contains(engine.log.String(), "apps read") })
		testenv.Never(t, 500*time.Millisecond, "the container is started again",
			func() bool { return d.pid("hello.web") != pid || !alive(pid) })
	})
	t.Run("killed program", func(t *testing.T) {
		begin := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		out.await("out hello image")
		t.Logf("killed → output again: %v", time.Since(begin))
		if d.pid("hello.web") == pid {
			t.Error("same pid")
		}
		pid = d.pid("hello.web")
	})
	t.Run("killed shim", func(t *testing.T) {
		parent := parentOf(t, pid)
		if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		out.await("out hello image")
		pid = d.pid("hello.web")
	})
	t.Run("hung shim", func(t *testing.T) {
		d.started("hello.web")
		shim := parentOf(t, pid)
		if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(shim, syscall.SIGCONT)
		steps := strings.Count(engine.log.String(), "verb=")
		if err := engine.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.eventually("the manager notices",
			func() bool { return strings.Contains(engine.log.String(), "does not answer") })
		if err := errors.Join(syscall.Kill(shim, syscall.SIGCONT), engine.Process.Signal(syscall.SIGHUP)); err != nil {
			t.Fatal(err)
		}
		d.eventually("the shim answers", func() bool { return strings.Contains(engine.log.String(), "answers again") })
		if got := d.pid("hello.web"); got != pid || !alive(pid) ||
			strings.Count(engine.log.String(), "verb=") != steps {
			t.Errorf("pid %d became %d", pid, got)
		}
		out.drain()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		out.await("out hello image")
		pid = d.pid("hello.web")
	})
	t.Run("terminated", func(t *testing.T) {
		d.end(engine, syscall.SIGTERM)
		if !alive(pid) {
			t.Fatal("the container ended with it")
		}
		engine = d.engine()
	})
	t.Run("reload", func(t *testing.T) {
		read := func(n int) func() bool {
			return func() bool { return strings.Count(engine.log.String(), "apps read") == n }
		}
		d.eventually("apps are read", read(1))
		if err := engine.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.eventually("apps are read again", read(2))
	})
	t.Run("power cut", func(t *testing.T) {
		d.powerCut()
		out.drain()
		begin := time.Now()
		engine = d.engine()
		out.await("out hello image")
		t.Logf("both started → first output, image there: %v", time.Since(begin))
		pid = d.pid("hello.web")
	})
	t.Run("shutdown", func(t *testing.T) {
		if err := os.WriteFile(d.path("shutdown"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		d.end(engine, syscall.SIGTERM)
		if alive(pid) {
			t.Error("the container lives on")
		}
		// the shell has no handler for TERM: nothing to wait for
		testenv.AtMost(t, "a shutdown", time.Since(begin), 5*time.Second)
	})
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	parent, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

const restless = `services:
  one: &one
    image: busybox
    command: ["/bin/sh", "-c", "exit 0"]
    restart: always
    network_mode: none
  two: *one
  three: *one
`

// TestNothingIsLeft: whenever a manager dies in the middle of its work, what it had begun ends with the app.
func TestNothingIsLeft(t *testing.T) {
	d := newDevice(t)
	d.app("restless", restless, "busybox")
	engine := d.engine()
	for i := range 6 {
		moment := []string{"verb=reap", "verb=start", "container ended"}[i%3]
		d.eventually(moment, func() bool { return strings.Contains(engine.log.String(), moment) })
		d.end(engine, []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2])
		engine = d.engine()
	}
	// Nobody reads the pipes here: what a killed manager left waiting for them goes on with the next one.
	d.eventually("all start again", func() bool { return strings.Count(engine.log.String(), "container ended") > 2 })
	if err := os.RemoveAll(d.path("apps", "restless")); err != nil {
		t.Fatal(err)
	}
	d.eventually("nothing is left", func() bool { return d.left() == "" })
}

// TestHungShimEndsWithItsApp: an app whose shim does not answer is taken away all the same, with the shim.
func TestHungShimEndsWithItsApp(t *testing.T) {
	d := newDevice(t)
	d.app("hello", hello, "busybox")
	engine := d.engine()
	d.started("hello.web")
	pid := d.pid("hello.web")
	shim := parentOf(t, pid)
	if err := errors.Join(syscall.Kill(shim, syscall.SIGSTOP), os.RemoveAll(d.path("apps", "hello"))); err != nil {
		t.Fatal(err)
	}
	d.eventually("the app is to go", func() bool { return strings.Contains(engine.log.String(), "verb=stop") })
	d.eventually("its container is deleted", func() bool { return d.labels("hello.web") == nil })
	d.eventually("its processes have ended", func() bool { return !alive(pid) && !alive(shim) })
	d.eventually("nothing is left", func() bool { return d.left() == "" })
}

// TestForgottenShimEnds: what an engine has left behind that lost all it knew of a container is ended by the next one.
func TestForgottenShimEnds(t *testing.T) {
	d := newDevice(t)
	d.app("hello", hello, "busybox")
	engine := d.engine()
	out := d.output("hello.web", "stdout")
	out.await("out")
	pid := d.pid("hello.web")
	shim := parentOf(t, pid)
	d.end(engine, syscall.SIGKILL)
	bundle := d.path("run", "io.containerd.runtime.v2.task", engineclient.Namespace)
	if err := os.Rename(filepath.Join(bundle, "hello.web"), filepath.Join(bundle, ".hello.web")); err != nil {
		t.Fatal(err)
	}
	out.drain()
	engine = d.engine()
	out.await("out")
	if alive(pid) || alive(shim) || d.pid("hello.web") == pid {
		t.Errorf("pid %d and its shim %d live on beside their successors", pid, shim)
	}
	if text := engine.log.String(); !strings.Contains(text, "shim without a container killed") {
		t.Errorf("the engine said\n%s", text)
	}
}

const lasting = `services:
  web:
    image: busybox
    command: ["/bin/sh", "-c", "echo pid $$$$; while :; do sleep 1; done"]
    restart: always
    network_mode: none
`

// TestDeletionCut: a deletion of a task that was cut after the runtime had removed its state is finished by the next
// one.
func TestDeletionCut(t *testing.T) {
	d := newDevice(t)
	d.app("lasting", lasting, "busybox")
	web := d.output("lasting.web", "stdout")
	engine := d.engine()
	web.await("pid")
	if err := os.RemoveAll(d.path("runtime", "resinos", "lasting.web")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(d.pid("lasting.web"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	web.await("pid")
	if log := engine.log.String(); strings.Contains(log, "not as wanted") {
		t.Errorf("the manager said\n%s", log)
	}
}

const jobs = `services:
  job:
    image: busybox
    command: ["/bin/sh", "-c", "echo job ran"]
    restart: "no"
    network_mode: none
  well:
    image: busybox
    command: ["/bin/sh", "-c", "echo well ran"]
    restart: on-failure
    network_mode: none
  web:
    image: busybox
    command: ["/bin/sh", "-c", "echo web runs; while :; do sleep 1; done"]
    restart: unless-stopped
    network_mode: none
`

// TestJobStaysEnded: after a power cut nothing runs again that Docker would leave ended, until its file changes.
func TestJobStaysEnded(t *testing.T) {
	d := newDevice(t)
	d.app("jobs", jobs, "busybox")
	job, well, web := d.output("jobs.job", "stdout"), d.output("jobs.well", "stdout"), d.output("jobs.web", "stdout")
	d.engine()
	for _, o := range []*output{job, well, web} {
		o.await("r")
	}
	for _, id := range []string{"jobs.job", "jobs.well"} {
		d.eventually(id+" is kept as ended", func() bool { return d.labels(id)["resinos/stays-ended"] != "" })
	}
	d.powerCut()
	engine := d.engine()
	web.await("web runs")
	// All three were planned at once, and would have been started at once: the log tells before the output does.
	if strings.Contains(engine.log.String(), "container=jobs.job") ||
		strings.Contains(engine.log.String(), "container=jobs.well") || len(job.next) > 0 || len(well.next) > 0 {
		t.Errorf("a job runs again after a power cut:\n%s", engine.log)
	}
	d.app("jobs", strings.Replace(jobs, "job ran", "job ran again", 1), "")
	job.await("job ran again")
}

const pair = `services:
  one:
    image: busybox
    command: ["/bin/sh", "-c", "cat /proc/self/status >&2; trap 'exit 0' TERM; while :; do sleep 1 & wait; done"]
    network_mode: none
    user: "1234:5678"
  two:
    image: busybox
    command: ["/bin/busybox", "sleep", "1000"]
    network_mode: host
    stop_grace_period: 1s
`

// TestAppIsOneGroup: nobody reads the containers' output, and yet they start; one shim serves both;
// when the app is taken away, so are they.
func TestAppIsOneGroup(t *testing.T) {
	d := newDevice(t)
	d.app("pair", pair, "busybox")
	d.engine()
	d.eventually("both run", func() bool { return alive(d.pid("pair.one")) && alive(d.pid("pair.two")) })
	one, two := d.pid("pair.one"), d.pid("pair.two")
	shim := parentOf(t, one)
	if other := parentOf(t, two); other != shim {
		t.Errorf("two shims: %d and %d", shim, other)
	}
	d.output("pair.one", "stderr").await("Uid:\t1234") // it waited in the pipe, which the shim holds open
	for _, c := range []struct {
		pid int
		own bool
	}{{one, true}, {two, false}} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.pid))
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := os.Readlink("/proc/self/ns/net"); err != nil || (ours != theirs) != c.own {
			t.Errorf("network namespace of %d: %s, ours %s, %v", c.pid, theirs, ours, err)
		}
	}
	if err := os.RemoveAll(d.path("apps", "pair")); err != nil {
		t.Fatal(err)
	}
	d.eventually("both and the shim are gone", func() bool { return !alive(one) && !alive(two) && !alive(shim) })
	d.eventually("the records are gone", func() bool {
		left, err := os.ReadDir(d.path("records"))
		return err == nil && len(left) == 0
	})
}

const shop = `services:
  web:
    image: busybox
    command: ["/bin/sh", "-c",
	"mkdir /www; echo served > /www/x; while :; do echo -e 'HTTP/1.0 200 OK\n\nserved' | nc -l -p 80; done"]
    ports: ["8080:80"]
    networks: {default: {aliases: [shop-alias]}}
    restart: always
  client:
    image: busybox
    command: ["/bin/sh", "-c",
	"while ! nc shop-alias 80 | grep served; do sleep 1; done; cat /etc/hosts; while :; do sleep 1; done"]
    networks: [default]
    extra_hosts: ["somewhere:192.0.2.7"]
    restart: always
`

// TestPublishedPort: an app without a word about networks has one; its port is open on the device, through every death.
func TestPublishedPort(t *testing.T) {
	d := newDevice(t)
	loopbackUp(t)
	d.app("shop", shop, "busybox")
	// Of an image of its own: two apps that bring different images of one name replace their containers until each has
	// its own one.
	d.app("thief", strings.ReplaceAll(shop, "image: busybox", "image: thief"), "thief")
	client := d.output("shop.client", "stdout")
	engine := d.engine()
	served := func() bool { return strings.Contains(ask("127.0.0.1:8080"), "served") }
	d.eventually("the port is served", served)
	client.await("served")
	client.await("192.0.2.7")
	d.eventually("who has the port is said", func() bool {
		s, err := appstatus.Read(d.path("apps.json"))
		return err == nil && len(s.Apps) == 2 && strings.Contains(s.Apps[1].Containers[1].Reason,
			"port 8080:80/tcp is taken by app shop, service web")
	})
	pid := d.pid("shop.web")
	d.end(engine, syscall.SIGKILL)
	d.eventually("the port is served without an engine", served)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	engine = d.engine()
	d.eventually("the port is served by the next container", served)
	for range 4 { // in the middle of whatever it does
		d.eventually("the engine knows the container", func() bool { pid = d.pid("shop.web"); return pid != 0 })
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.eventually("the manager works", func() bool { return strings.Contains(engine.log.String(), "verb=start") })
		d.end(engine, syscall.SIGKILL)
		engine = d.engine()
		d.eventually("the port is served again", served)
	}
	d.end(engine, syscall.SIGKILL)
	d.engine()
	d.eventually("the port is served beside a new engine", served)
	if err := errors.Join(os.RemoveAll(d.path("apps", "shop")), os.RemoveAll(d.path("apps", "thief"))); err != nil {
		t.Fatal(err)
	}
	d.eventually("nothing is left", func() bool { return d.left() == "" && len(links(t)) == 0 })
}

// links are those that are neither loopback nor a tunnel that comes with a kernel module.
func links(t *testing.T) []string {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range all {
		if l.Type() == "bridge" || l.Type() == "veth" {
			out = append(out, l.Attrs().Name)
		}
	}
	return out
}

func loopbackUp(t *testing.T) {
	t.Helper()
	l, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

// ask returns what a server says that talks at once.
func ask(address string) string {
	const looks = 10 // that Patience has room for: a port that is not served yet may be silent
	c, err := net.DialTimeout("tcp", address, testenv.Patience()/looks)
	if err != nil {
		return ""
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(testenv.Patience() / looks)); err != nil {
		return ""
	}
	text, _ := io.ReadAll(c) // what came until an error is the answer
	return string(text)
}

// registry starts a registry, writes the settings by which the manager speaks to it, and makes a layer with a shell and
// sleep.
func (d *device) registry() (r *pulltest.Registry, shell []byte) {
	d.t.Helper()
	loopbackUp(d.t)
	r = pulltest.New(d.t)
	r.Settings(d.path("registries"))
	busybox, err := os.ReadFile(d.tools.busybox)
	if err != nil {
		d.t.Fatal(err)
	}
	return r, pulltest.Tar(d.t, map[string][]byte{"bin/sh": busybox, "bin/sleep": busybox}, 0o755)
}

const distant = `services:
  web:
    image: IMAGE
    command: ["/bin/sh", "-c", "echo out $$FROM; while :; do sleep 1; done"]
    restart: always
    network_mode: host
  near:
    image: busybox
    command: ["/bin/sh", "-c", "echo near runs; while :; do sleep 1; done"]
    network_mode: host
`

// TestPulledApp: an app's image comes from a registry, beside which a service whose image is there starts at once; the
// pull lives through kill -9 of its fetcher, the manager and the engine, and the next one goes on where it was cut.
func TestPulledApp(t *testing.T) {
	d := newDevice(t)
	registry, files := d.registry()
	image := registry.Push("distant", "1", runtimeArch, files, pulltest.Layer(t, "data", 4<<20))
	waiting, cuts := make(chan struct{}, 100), make(chan struct{})
	registry.Cut(func(r *http.Request) int64 {
		if !strings.HasSuffix(r.URL.Path, image.Layers[1].Digest.String()) {
			return -1
		}
		select {
		case <-cuts:
			return -1
		default:
			waiting <- struct{}{}
			return 256 << 10
		}
	})
	d.app("distant", strings.Replace(distant, "IMAGE", image.Name, 1), "busybox")
	near, web := d.output("distant.near", "stdout"), d.output("distant.web", "stdout")
	engine := d.engine()
	near.await("near runs")
	testenv.Receive(t, "a request for the layer", waiting)
	for _, pid := range pids() {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(name), "fetcher") {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
	testenv.Receive(t, "a request for the layer", waiting)
	d.end(engine, syscall.SIGKILL)
	engine = d.engine()
	testenv.Receive(t, "a request for the layer", waiting)
	d.end(engine, syscall.SIGKILL)
	d.engine()
	testenv.Receive(t, "a request for the layer", waiting)
	close(cuts)
	web.await("out")
	if got, most := registry.Sent(image.Layers[1].Digest), 2*image.Layers[1].Size; got > most {
		t.Errorf("%d bytes went out of a layer of %d", got, image.Layers[1].Size)
	}
}

// TestNextImage: while an app's next image is pulled, its container runs, and is started again if it ends; the status
// tells of the pull, and of one that cannot come to an end.
func TestNextImage(t *testing.T) {
	d := newDevice(t)
	registry, files := d.registry()
	one, two := registry.Push("next", "1", runtimeArch, files), registry.Push("next", "2", runtimeArch, files,
		pulltest.Layer(t, "next", 3<<20))
	asked, goOn := make(chan struct{}, 10), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // or the registry would wait for its answers
	registry.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, two.Layers[1].Digest.String()) {
			asked <- struct{}{}
			<-goOn
		}
		return false
	})
	d.app("next", strings.Replace(distant, "IMAGE", one.Name, 1), "busybox")
	web := d.output("next.web", "stdout")
	d.engine()
	web.await("out")
	pid := d.pid("next.web")
	d.app("next", strings.Replace(distant, "IMAGE", two.Name, 1), "")
	testenv.Receive(t, "a request for the layer", asked)
	tells := func(what string, holds func(appstatus.Container) bool) {
		t.Helper()
		d.eventually(what, func() bool {
			s, err := appstatus.Read(d.path("apps.json"))
			return err == nil && len(s.Apps) == 1 && len(s.Apps[0].Containers) == 2 && holds(s.Apps[0].Containers[1])
		})
	}
	tells("the status shows the pull", func(c appstatus.Container) bool {
		return c.State == appstatus.Up && c.Pull != nil && strings.HasSuffix(c.Pull.String(), "of 3 MB")
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.eventually("the old container runs again", func() bool {
		now := d.pid("next.web")
		return now != pid && alive(now)
	})
	release()
	d.eventually("the new one runs", func() bool {
		return d.labels("next.web")["resinos/image-digest"] == two.Manifest.String()
	})
	d.app("next", strings.Replace(distant, "IMAGE", registry.Host+"/next:3", 1), "")
	tells("the status shows what is wrong", func(c appstatus.Container) bool {
		return c.State == appstatus.Up && strings.Contains(c.Reason, "/next:3") &&
			strings.Contains(c.Reason, "not found")
	})
}
