package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
)

const stored = `services:
  db:
    image: busybox
    command: ["/bin/sh", "-c", "echo old > /data/x; while :; do sleep 1; done"]
    environment: {GREETING: hello}
    volumes: ["data:/data"]
    ports: ["8099:80"]
    restart: always
volumes: {data: {}}
`

// passing are the containers that osctl run has made and that are there.
func (d *device) passing(t *testing.T) []string {
	t.Helper()
	s, err := appstatus.Read(d.path("apps.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range s.Apps {
		for _, c := range a.Containers {
			if strings.Contains(c.ID, "-run-") {
				out = append(out, c.ID)
			}
		}
	}
	return out
}

// start begins a command in a container of its own as osctl does.
func (d *device) start(t *testing.T, name string, args ...string) (*exec.Cmd, string) {
	t.Helper()
	p, err := d.ask().Run(patient(t), appcontrol.Exec{App: appcontrol.Parse(name), Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return command(t, p), p.ID
}

// TestRun: a command runs in a container like that of a service, beside it, and the container goes with it, whatever
// has become of the manager; down -v removes all that there was.
func TestRun(t *testing.T) {
	d := newDevice(t)
	loopbackUp(t)
	d.app("store", stored, "busybox")
	engine := d.engine()
	d.started("store.db")
	ctx := patient(t)

	t.Run("like the service", func(t *testing.T) {
		cmd, id := d.start(t, "store.db", "/bin/sh", "-c", "echo $GREETING $FROM; read x < /data/x; echo $x;"+
			"grep -c : /proc/net/dev; echo new > /data/x; exit 5")
		out, err := cmd.Output()
		var exited *exec.ExitError
		if !errors.As(err, &exited) || exited.ExitCode() != 5 || id != "store.db-run-1" ||
			string(out) != "hello image\nold\n2\n" {
			t.Errorf("%s: %v, %q", id, err, out)
		}
		d.do(t, appcontrol.OpStop, id) // as osctl does at the end
		d.eventually("the container goes with the command", func() bool { return d.labels(id) == nil })
	})
	t.Run("outlives the manager", func(t *testing.T) {
		cmd, id := d.start(t, "store.db", "/bin/sh", "-c", "echo there; read line; echo got $line; sleep 2")
		answers := talk(t, cmd)
		d.end(engine, syscall.SIGKILL)
		engine = d.engine()
		d.eventually("the new manager has looked", func() bool {
			list, err := d.ask().Plan(ctx, appcontrol.App{})
			return err == nil && len(list) == 0
		})
		if d.pid(id) == 0 {
			t.Error("the new manager has ended it")
		}
		answers()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		d.eventually("the container goes with the command", func() bool { return d.labels(id) == nil })
	})
	t.Run("refused", func(t *testing.T) {
		for name, want := range map[string]string{
			"store": "run needs a service", "store.web": `no container "web"`, "stor.db": `no app "stor"`,
		} {
			_, err := d.ask().Run(ctx, appcontrol.Exec{App: appcontrol.Parse(name)})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("run %s: %v", name, err)
			}
		}
	})
	t.Run("down -v", func(t *testing.T) {
		_, id := d.start(t, "store.db", "/bin/sh")
		volume := d.path("volumes", "store", "data", "x")
		if text, err := os.ReadFile(volume); err != nil || strings.TrimSpace(string(text)) == "" {
			t.Errorf("volume: %q, %v", text, err)
		}
		d.do(t, appcontrol.OpDown, "store")
		if _, err := os.Stat(volume); err != nil || d.labels(id) != nil || len(d.passing(t)) > 0 {
			t.Errorf("after down: %v, containers %v", err, d.passing(t))
		}
		a := appcontrol.App{App: "store", Volumes: true}
		if err := d.ask().Change(ctx, appcontrol.OpDown, a); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(d.path("volumes", "*")); err != nil || len(left) > 0 {
			t.Errorf("volumes left: %v, %v", left, err)
		}
		d.do(t, appcontrol.OpUp, "store")
		d.eventually("the app runs with a new volume", func() bool {
			text, err := os.ReadFile(volume)
			return err == nil && string(text) == "old\n"
		})
	})
}
