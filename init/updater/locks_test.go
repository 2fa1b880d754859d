package updater

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/updatecontrol"
	"resinos/mounts/testenv"
)

// container is a root file system with busybox, in which programs run as those of a container do.
type container struct {
	*bench
	root string
}

func newContainer(t *testing.T, b *bench) *container {
	c := &container{b, filepath.Join(b.dir, "root")}
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	c.file("root/busybox", busybox)
	if err := os.Chmod(filepath.Join(c.root, "busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"root/tmp/balena", "root/tmp/resin"} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.file("apps.json", []byte(`{"apps": [{"name": "shop", "containers": [{"name": "web", "id": "shop.web"}]}]}`))
	c.file("containers/ended.gone-1/cgroup.procs", nil)
	cmd := c.sleeps()
	c.file("containers/shop.web/inner/cgroup.procs", fmt.Appendln(nil, cmd.Process.Pid))
	return c
}

// sleeps starts a program in the container that has these files open.
func (c *container) sleeps(files ...*os.File) *exec.Cmd {
	c.t.Helper()
	cmd := &exec.Cmd{Path: "/busybox", Args: []string{"busybox", "sleep", "1000"}, Dir: "/", ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{Chroot: c.root}}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.kill(cmd) })
	return cmd
}

// flocks starts a program in the container that holds the lock of a file as flock(1) does.
func (c *container) flocks(name string) *exec.Cmd {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.root, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close() // the program has it
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		c.t.Fatal(err)
	}
	return c.sleeps(f)
}

func (c *container) kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()         // it was killed
}

func (c *container) waitFor(want string) {
	c.t.Helper()
	testenv.WaitFor(c.t, fmt.Sprintf("the locks %q", want),
		func() bool { return strings.Join(c.device.locks(), "; ") == want })
}

// TestLocks has a program hold a real flock, and looks at what is left of it when it is killed, and at files that are
// no plain ones.
func TestLocks(t *testing.T) {
	c := newContainer(t, newBench(t))
	if held := c.device.locks(); len(held) > 0 {
		t.Errorf("nobody has a lock: %q", held)
	}
	flock := c.flocks("tmp/balena/updates.lock")
	c.waitFor("container shop.web: /tmp/balena/updates.lock is locked by a process")
	c.kill(flock)
	c.waitFor("container shop.web: /tmp/balena/updates.lock exists")
	inside := func(name string) string { return filepath.Join(c.root, "tmp", name) }
	if err := os.Rename(inside("balena/updates.lock"), inside("resin/resin-updates.lock")); err != nil {
		t.Fatal(err)
	}
	c.waitFor("container shop.web: /tmp/resin/resin-updates.lock exists")
	if err := os.RemoveAll(inside("resin")); err != nil {
		t.Fatal(err)
	}
	c.waitFor("")

	// A FIFO holds nobody up, and a link leads nowhere out of the container.
	c.file("outside", nil)
	for _, do := range []error{
		unix.Mkfifo(inside("balena/updates.lock"), 0o600),
		os.Symlink(filepath.Join(c.dir, "outside"), inside("balena/resin-updates.lock")),
	} {
		if do != nil {
			t.Fatal(do)
		}
	}
	c.waitFor("container shop.web: /tmp/balena/updates.lock exists")
	if err := os.RemoveAll(filepath.Join(c.dir, "containers")); err != nil {
		t.Fatal(err)
	}
	c.waitFor("")
}

// TestLocksDelayTheReboot: an update is installed and switched, and the device reboots when the app lets it. Another
// update is told that one is at work.
func TestLocksDelayTheReboot(t *testing.T) {
	b := newBench(t)
	c := newContainer(t, b)
	file := b.bundle(2, same)
	flock := c.flocks("tmp/balena/updates.lock")
	c.waitFor("container shop.web: /tmp/balena/updates.lock is locked by a process")
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: file}); err != nil {
		t.Fatal(err)
	}
	var p updatecontrol.Progress
	testenv.WaitFor(t, "the phase locked", func() bool {
		var err error
		p, err = b.client.Progress(t.Context())
		return err == nil && p.Phase == updatecontrol.Locked
	})
	if !strings.Contains(p.Locks, "container shop.web: /tmp/balena/updates.lock") {
		t.Errorf("locked: %+v", p)
	}
	if _, v := b.standing(); v.Try != "B" {
		t.Errorf("it is not switched: %+v", v)
	}
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: file}); err == nil ||
		!strings.Contains(err.Error(), "busy: an update to 1.1.0 is at work (locked)") {
		t.Errorf("another one: %v", err)
	}
	testenv.NeverReceive(t, 100*time.Millisecond, "a reboot", b.restarts)
	c.kill(flock)
	if err := os.Remove(filepath.Join(c.root, "tmp/balena/updates.lock")); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "the reboot", b.restarts)
	if p := b.ends(); p.Phase != updatecontrol.Done || !p.Reboot || p.Locks != "" {
		t.Errorf("it ended with %+v", p)
	}
}

// TestOverrideLocks reboots all the same, and the log has what was gone over.
func TestOverrideLocks(t *testing.T) {
	b := newBench(t)
	var log bytes.Buffer
	b.device.log = slog.New(slog.NewTextHandler(&log, nil))
	s := &server{device: b.device, install: new(installation), log: b.device.log, lookForLocks: time.Hour}
	c := newContainer(t, b)
	c.file("root/tmp/balena/updates.lock", nil)
	if err := s.awaitLocks(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if want := "container shop.web: /tmp/balena/updates.lock exists"; !strings.Contains(log.String(), want) ||
		!strings.Contains(log.String(), "level=WARN msg=\"update locks overridden\"") {
		t.Errorf("the log has %q", log.String())
	}
}
