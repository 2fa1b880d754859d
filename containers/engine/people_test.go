package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/mounts/testenv"
	"resinos/services/control"
)

// ask is how people reach the manager of the device.
func (d *device) ask() appcontrol.Client { return appcontrol.Client{Socket: d.path("apps.sock")} }

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	t.Cleanup(cancel)
	return ctx
}

// state is what the manager tells of a container.
func (d *device) state(id string) appstatus.State {
	s, err := appstatus.Read(d.path("apps.json"))
	if err != nil {
		return ""
	}
	for _, a := range s.Apps {
		for _, c := range a.Containers {
			if c.ID == id {
				return c.State
			}
		}
	}
	return ""
}

// do has the manager carry out a change.
func (d *device) do(t *testing.T, op, name string) {
	t.Helper()
	if err := d.ask().Change(patient(t), op, appcontrol.Parse(name)); err != nil {
		t.Fatalf("%s %s: %v", op, name, err)
	}
}

// inside runs a program in a container as osctl does.
func (d *device) inside(name string, args ...string) *exec.Cmd {
	d.t.Helper()
	p, err := d.ask().Exec(patient(d.t), appcontrol.Exec{App: appcontrol.Parse(name), Args: args})
	if err != nil {
		d.t.Fatal(err)
	}
	return command(d.t, p)
}

// command is the runtime's, which runs a program in a container.
func command(t *testing.T, p appcontrol.Program) *exec.Cmd {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.Write(p.Process); err != nil { // it is smaller than a pipe
		t.Fatal(err)
	}
	write.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.ExtraFiles = []*os.File{read}
	return cmd
}

// talk starts a command that says there, and then "got" and what it reads. The returned function looks that it does.
func talk(t *testing.T, cmd *exec.Cmd) (answers func()) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 100)
	if n, err := out.Read(text); string(text[:n]) != "there\n" {
		t.Fatalf("%q, %v", text[:n], err)
	}
	return func() {
		t.Helper()
		if _, err := in.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if n, err := out.Read(text); string(text[:n]) != "got x\n" {
			t.Errorf("%q, %v", text[:n], err)
		}
	}
}

const two = `services:
  web:
    image: busybox
    command: ["/bin/sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 1; done"]
    restart: unless-stopped
    network_mode: none
  other:
    image: busybox
    command: ["/bin/sh", "-c", "echo up; while :; do sleep 1; done"]
    restart: always
    network_mode: none
`

// TestPeople: what people ask for is done, refused with what there is instead, and kept over restarts of the manager
// and over power cuts.
func TestPeople(t *testing.T) {
	d := newDevice(t)
	d.app("two", two, "busybox")
	engine := d.engine()
	d.started("two.web")
	d.started("two.other")
	ctx := patient(t)

	t.Run("exec", func(t *testing.T) {
		cmd := d.inside("two.web", "/bin/sh", "-c", "cat; echo err >&2; grep NoNewPrivs /proc/self/status; exit 3")
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in\n"), &out, &errs
		err := cmd.Run()
		var exited *exec.ExitError
		if !errors.As(err, &exited) || exited.ExitCode() != 3 ||
			!strings.HasPrefix(out.String(), "in\nNoNewPrivs:\t1") || errs.String() != "err\n" {
			t.Errorf("%v, output %q, errors %q", err, &out, &errs)
		}
	})
	t.Run("exec outlives the engine", func(t *testing.T) {
		cmd := d.inside("two.web", "/bin/sh", "-c", "echo there; read line; echo got $line; exit 4")
		answers := talk(t, cmd)
		d.end(engine, syscall.SIGKILL)
		answers()
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 4 {
			t.Error(err)
		}
		engine = d.engine()
		d.eventually("the new manager answers", func() bool {
			_, err := d.ask().Plan(ctx, appcontrol.App{})
			return err == nil
		})
	})
	t.Run("exec is killed", func(t *testing.T) {
		cmd := d.inside("two.web", "sleep", "4003")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d.eventually("the program runs", func() bool { return len(running("4003")) == 1 })
		_ = errors.Join(cmd.Process.Kill(), cmd.Wait()) // the status is that of the kill
		if len(running("4003")) != 1 {
			t.Fatal("the program ended with the runtime that started it: this test proves nothing")
		}
		d.do(t, appcontrol.OpRestart, "two.web")
		if left := running("4003"); len(left) > 0 {
			t.Errorf("%v are left of a container that was restarted", left)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for name, want := range map[string]string{
			"helo":    `no app "helo"; the apps are: two`,
			"two.wep": `app two has no container "wep"; it has: other, web`,
		} {
			err := d.ask().Change(ctx, appcontrol.OpStop, appcontrol.Parse(name))
			var refused *control.Error
			if !errors.As(err, &refused) || refused.Error() != want {
				t.Errorf("stop %s: %v", name, err)
			}
		}
	})
	t.Run("restart", func(t *testing.T) {
		before, other := d.pid("two.web"), d.pid("two.other")
		d.do(t, appcontrol.OpRestart, "two.web")
		if now := d.pid("two.web"); now == before || now == 0 || d.pid("two.other") != other {
			t.Errorf("pid %d became %d, the other's %d", before, now, d.pid("two.other"))
		}
	})
	t.Run("stop", func(t *testing.T) {
		d.do(t, appcontrol.OpStop, "two")
		if d.pid("two.web") != 0 || d.pid("two.other") != 0 || d.state("two.web") != appstatus.Halted {
			t.Errorf("pids %d and %d, state %s", d.pid("two.web"), d.pid("two.other"), d.state("two.web"))
		}
		d.end(engine, syscall.SIGKILL)
		engine = d.engine()
		d.eventually("the new manager has looked", func() bool {
			list, err := d.ask().Plan(ctx, appcontrol.App{})
			return err == nil && len(list) == 0
		})
		if d.pid("two.web") != 0 || d.pid("two.other") != 0 {
			t.Error("a new manager starts what was stopped")
		}
	})
	t.Run("power cut after stop", func(t *testing.T) {
		d.powerCut()
		engine = d.engine()
		d.started("two.other") // restart: always
		d.eventually("the other one stays stopped", func() bool { return d.state("two.web") == appstatus.Halted })
		if list, err := d.ask().Plan(ctx, appcontrol.App{}); err != nil || len(list) != 0 {
			t.Errorf("plan %v, %v", list, err)
		}
		d.do(t, appcontrol.OpStart, "two.web")
		if d.pid("two.web") == 0 || d.labels("two.web")["resinos/held"] != "" {
			t.Errorf("pid %d, labels %v", d.pid("two.web"), d.labels("two.web"))
		}
	})
	t.Run("down", func(t *testing.T) {
		d.do(t, appcontrol.OpDown, "two")
		if d.labels("two.web") != nil || d.labels("two.other") != nil {
			t.Error("there are still containers")
		}
		d.powerCut()
		engine = d.engine()
		d.eventually("the app is down", func() bool {
			s, err := appstatus.Read(d.path("apps.json"))
			return err == nil && len(s.Apps) == 1 && s.Apps[0].State == appstatus.Down
		})
		err := d.ask().Change(ctx, appcontrol.OpStart, appcontrol.App{App: "two"})
		if err == nil || !strings.Contains(err.Error(), "osctl up two") {
			t.Errorf("start of an app that is down: %v", err)
		}
		d.do(t, appcontrol.OpUp, "two")
		if d.pid("two.web") == 0 || d.pid("two.other") == 0 {
			t.Error("up returned before all runs")
		}
	})
	t.Run("events", func(t *testing.T) {
		list, err := d.ask().Events(ctx, appcontrol.Watch{Now: true})
		started := func(e appcontrol.Event) bool { return e.Container == "two.web" && e.What == "start" }
		if err != nil || !slices.ContainsFunc(list, started) {
			t.Errorf("%+v, %v", list, err)
		}
	})
	t.Run("inspect", func(t *testing.T) {
		list, err := d.ask().Inspect(ctx, appcontrol.App{App: "two"})
		if err != nil || len(list) != 2 || list[1].ID != "two.web" || list[1].PID != d.pid("two.web") ||
			!bytes.Contains(list[1].Spec, []byte(`"ociVersion"`)) {
			t.Errorf("%+v, %v", list, err)
		}
	})
}
