package qemu

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"resinos/mounts/testenv"
)

func startGuest(t *testing.T, change func(*Options)) *Guest {
	t.Helper()
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img")
	o := Options{Board: biosBoard(), Image: bootDisk(t), Memory: 64}
	if change != nil {
		change(&o)
	}
	g, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return g
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	t.Cleanup(cancel)
	return ctx
}

func expect(t *testing.T, g *Guest, mark int, text string) {
	t.Helper()
	if _, err := g.Console().Wait(bounded(t), mark, regexp.MustCompile(text)); err != nil {
		t.Fatalf("%v\n%s", err, g.LastLines())
	}
}

func TestGuestLife(t *testing.T) {
	g := startGuest(t, nil)
	expect(t, g, 0, "hello from the disk")
	if got, err := g.QMP().Status(bounded(t)); got != "running" || err != nil {
		t.Errorf("Status = %q, %v", got, err)
	}
	if err := g.Console().Send("abc"); err != nil {
		t.Error(err)
	}
	expect(t, g, 0, "^abc")
	mark, events := g.Console().Mark(), len(g.QMP().Events())
	if err := g.Console().Send("r"); err != nil {
		t.Error(err)
	}
	expect(t, g, mark, "hello from the disk")
	if _, err := g.QMP().WaitEvent(bounded(t), events, "RESET"); err != nil {
		t.Error(err)
	}
	// The echo comes on a line of its own, so the greeting before it is complete and is not taken for the next one.
	if err := g.Console().Send("def"); err != nil {
		t.Error(err)
	}
	expect(t, g, mark, "^def")
	mark = g.Console().Mark()
	if err := g.QMP().Reset(bounded(t)); err != nil {
		t.Error(err)
	}
	expect(t, g, mark, "hello from the disk")
	if err := g.Console().Send("q"); err != nil {
		t.Error(err)
	}
	if err := g.Wait(bounded(t)); err != nil {
		t.Errorf("Wait = %v", err)
	}
	if _, err := os.Stat(g.dir); err == nil {
		t.Errorf("%s is left behind", g.dir)
	}
	g.Kill() // twice is harmless
}

func TestGuestDies(t *testing.T) {
	g := startGuest(t, nil)
	expect(t, g, 0, "hello from the disk") // all of it: a begun line matches too
	if err := syscall.Kill(g.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := g.Wait(bounded(t))
	if err == nil || !strings.Contains(err.Error(), "signal: killed") ||
		!strings.Contains(err.Error(), "| hello from the disk") {
		t.Errorf("Wait = %v, want the signal and the last console lines", err)
	}
}

func TestGuestEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img")
	g, err := Start(ctx, Options{Board: biosBoard(), Image: bootDisk(t), Memory: 64})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := g.Wait(bounded(t)); err == nil {
		t.Error("Wait = nil, want the end by signal")
	}
}

func TestWritesStayOut(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"overlay":  func(o *Options) { o.Overlay = filepath.Join(filepath.Dir(o.Image), "over, lay.qcow2") },
		"snapshot": func(o *Options) { o.Snapshot = true },
	} {
		t.Run(name, func(t *testing.T) {
			var image string
			g := startGuest(t, func(o *Options) { image = o.Image; change(o) })
			before, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			var said string
			write := map[string]string{"command-line": `qemu-io disk0 "write -P 0x5a 4096 4096"`}
			if err := g.QMP().Do(bounded(t), "human-monitor-command", write, &said); err != nil ||
				strings.Contains(said, "rror") {
				t.Fatalf("write: %v %s", err, said)
			}
			g.Kill()
			if after, err := os.ReadFile(image); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the image changed (%v)", err)
			}
		})
	}
}

func TestStartFaults(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img")
	image := bootDisk(t)
	g, err := Start(t.Context(), Options{Board: biosBoard(), Image: image, Memory: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Kill()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	absent := biosBoard()
	absent.Qemu.System = "qemu-system-none"
	wrong := biosBoard()
	wrong.Qemu.CPU = "abacus"
	cases := map[string]struct {
		o    Options
		is   error
		text string
	}{
		"locked image": {Options{Board: biosBoard(), Image: image}, ErrLocked, image},
		"port in use": {Options{Board: biosBoard(), Image: bootDisk(t),
			Network: Network{SSHPort: l.Addr().(*net.TCPAddr).Port}}, ErrPort, "--ssh-port"},
		"no such image": {Options{Board: biosBoard(), Image: "none.img"}, os.ErrNotExist, "none.img"},
		"no QEMU":       {Options{Board: absent, Image: bootDisk(t)}, ErrMissing, "qemu-system-none"},
		"bad CPU":       {Options{Board: wrong, Image: bootDisk(t)}, nil, "abacus"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g, err := Start(t.Context(), c.o)
			if err == nil {
				g.Kill()
				t.Fatal("started")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("Start = %v, want %v and %q", err, c.is, c.text)
			}
		})
	}
	if err := missing("/usr/bin/qemu-system-aarch64"); !strings.Contains(err.Error(),
		"apt-get install qemu-system-arm") {
		t.Errorf("missing = %v", err)
	}
}

// TestGuestDiesWithUs kills a process that started a guest and looks for the guest.
func TestGuestDiesWithUs(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img")
	if image := os.Getenv("QEMU_TEST_STARTER"); image != "" {
		g, err := Start(t.Context(), Options{Board: biosBoard(), Image: image, Memory: 64})
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("started " + strconv.Itoa(g.PID()) + "\n")
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGuestDiesWithUs$")
	// a killed starter tidies nothing up
	cmd.Env = append(os.Environ(), "QEMU_TEST_STARTER="+bootDisk(t), "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	pid, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(string(line[:n]), "started ")))
	_ = cmd.Process.Kill()
	if err != nil || pid == 0 {
		_ = cmd.Wait()
		t.Fatalf("starter said %q, %v", line[:n], err)
	}
	_ = cmd.Wait() // killed
	if err := testenv.Await("the end of QEMU after that of its starter", func() bool {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	}); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatal(err)
	}
}
