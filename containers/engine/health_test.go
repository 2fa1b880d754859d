package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/mounts/testenv"
)

// needCgroup2 gives the test cgroup v2 alone, as devices have it, where the host has version 1.
func needCgroup2(t *testing.T) {
	t.Helper()
	findTools(t) // in the namespaces
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return
	}
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		testenv.Lacking(t, "cgroup v2: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// running are the processes whose command line has this argument, in all containers.
func running(argument string) (out []int) {
	for _, pid := range pids() {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		words := strings.Split(string(text), "\x00")
		if err == nil && filepath.Base(words[0]) == "sleep" && len(words) > 1 && words[1] == argument && alive(pid) {
			out = append(out, pid)
		}
	}
	return out
}

// container is what the manager publishes of one.
func (d *device) container(id string) appstatus.Container {
	s, err := appstatus.Read(d.path("apps.json"))
	if err != nil {
		return appstatus.Container{}
	}
	for _, a := range s.Apps {
		for _, c := range a.Containers {
			if c.ID == id {
				return c
			}
		}
	}
	return appstatus.Container{}
}

// health waits until a container is so.
func (d *device) health(id, want string) {
	d.t.Helper()
	d.eventually(id+" is "+want, func() bool { return d.container(id).Health == want })
}

// inspected is what inspect shows of one container.
func (d *device) inspected(id string) appcontrol.Container {
	d.t.Helper()
	list, err := d.ask().Inspect(patient(d.t), appcontrol.Parse(id))
	if err != nil || len(list) != 1 {
		d.t.Fatalf("inspect %s: %+v, %v", id, list, err)
	}
	return list[0]
}

// serving is a service that runs, but for what its check is. Its cgroup needs no controller: a host with version 1 has
// given all of them to that.
func serving(check string) string {
	return `services:
  web:
    image: busybox
    command: ["/bin/sh", "-c", "while :; do sleep 1; done"]
    restart: unless-stopped
    network_mode: none
    pids_limit: -1
` + check
}

// TestHealth: a container is starting, unhealthy and healthy as its check says, all who ask are told, and a container
// that is stopped is not checked.
func TestHealth(t *testing.T) {
	needCgroup2(t)
	d := newDevice(t)
	d.app("shop", serving(`    healthcheck: {test: "echo looked; cat /ok", interval: 100ms, retries: 2}`), "busybox")
	d.engine()
	d.health("shop.web", "unhealthy")
	if c := d.container("shop.web"); c.State != appstatus.Up || c.Cause != appstatus.Unhealthy {
		t.Errorf("an unhealthy container: %+v", c)
	}
	h := d.inspected("shop.web").Health
	if h == nil || h.Status != "unhealthy" || h.Streak < 2 || len(h.Log) < 2 || h.Log[0].Exit != 1 ||
		!strings.HasPrefix(h.Log[0].Output, "looked\ncat: ") {
		t.Errorf("%+v", h)
	}
	if err := d.inside("shop.web", "/bin/sh", "-c", "echo fine > /ok").Run(); err != nil {
		t.Fatal(err)
	}
	d.health("shop.web", "healthy")
	if c := d.container("shop.web"); c.Wrong() {
		t.Errorf("a healthy container: %+v", c)
	}
	d.eventually("the log is of five checks that went well", func() bool {
		h := d.inspected("shop.web").Health
		return len(h.Log) == 5 && h.Log[0].Exit == 0 && h.Log[0].Output == "looked\nfine\n" && h.Streak == 0
	})
	list, err := d.ask().Events(patient(t), appcontrol.Watch{Now: true})
	var said []string
	for _, e := range list {
		if e.What == "health_status" {
			said = append(said, e.Container+" "+e.Detail)
		}
	}
	if want := "shop.web unhealthy, shop.web healthy"; err != nil || strings.Join(said, ", ") != want {
		t.Errorf("events %v, %v", said, err)
	}
	d.do(t, appcontrol.OpStop, "shop")
	if c := d.inspected("shop.web"); c.Health != nil || d.container("shop.web").Health != "" {
		t.Errorf("a stopped container is %+v", c.Health)
	}
	d.do(t, appcontrol.OpStart, "shop")
	d.health("shop.web", "healthy") // its root stays, with the file
	if h := d.inspected("shop.web").Health; len(h.Log) > 4 {
		t.Errorf("a new life has the log of the last one: %d checks", len(h.Log))
	}
}

// TestHealthOfImage: without a word of the app the check of the container image counts, by its own shell.
func TestHealthOfImage(t *testing.T) {
	needCgroup2(t)
	d := newDevice(t)
	d.app("shop", serving(`    healthcheck: {interval: 100ms}`), "")
	configuredImage(t, d.tools.busybox, d.path("apps", "shop", "images", "image.tar"), "busybox", "", map[string]any{
		"Shell": []string{"/bin/busybox", "sh", "-ec"},
		"Healthcheck": map[string]any{"Test": []string{"CMD-SHELL", "echo $-; false; true"},
			"Interval": 3600_000_000_000, "Retries": 1},
	})
	d.engine()
	d.health("shop.web", "unhealthy") // -e of the image's shell makes it so
	if h := d.inspected("shop.web").Health; !strings.Contains(h.Log[0].Output, "e") {
		t.Errorf("%+v", h)
	}
}

// TestHealthLeavesNothing: what a check starts ends with the check, whatever it did to be left alone. When the status
// is known no further check is due for an hour.
func TestHealthLeavesNothing(t *testing.T) {
	needCgroup2(t)
	for name, c := range map[string]struct{ check, want, output string }{
		"daemons": {`    healthcheck:
      test: >-
        sleep 4001 & /bin/busybox setsid sleep 4001 & (sleep 4001 &) ; echo x >> /n;
        test $$(/bin/busybox wc -l < /n) -gt 3
      interval: 1h
      start_period: 1h
      start_interval: 100ms
`, "healthy", ""},
		"hangs": {`    healthcheck:
      test: "trap '' TERM; echo here; sleep 4001 & sleep 4001"
      interval: 1h
      timeout: 2s
      start_period: 50ms
      start_interval: 100ms
      retries: 1
`, "unhealthy", "Health check exceeded timeout (2s): here\n"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			d.app("shop", serving(c.check), "busybox")
			d.engine()
			d.health("shop.web", c.want)
			if left := running("4001"); len(left) > 0 {
				t.Errorf("%d processes are left: %v", len(left), left)
			}
			log := d.inspected("shop.web").Health.Log
			if last := log[len(log)-1]; last.Output != c.output {
				t.Errorf("the last check said %q, want %q", last.Output, c.output)
			}
		})
	}
}

// TestHealthOutlivesTheManager: a manager that is killed during a check leaves none behind, and the next one goes on.
func TestHealthOutlivesTheManager(t *testing.T) {
	needCgroup2(t)
	d := newDevice(t)
	d.app("shop", serving(`    healthcheck: {test: "sleep 4002", interval: 100ms, timeout: 1h}`), "busybox")
	engine := d.engine()
	var before []int
	d.eventually("a check runs", func() bool { before = running("4002"); return len(before) == 1 })
	d.end(engine, syscall.SIGKILL)
	if !alive(before[0]) {
		t.Fatal("the check ended with the manager: this test proves nothing")
	}
	d.engine()
	d.eventually("the next manager ends it and begins one of its own", func() bool {
		now := running("4002")
		return len(now) == 1 && now[0] != before[0] && !alive(before[0])
	})
}
