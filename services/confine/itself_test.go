package confine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"resinos/services/spec"
)

// threads prints, for every thread of a process that has many, the lines of its status that tell of a confinement, each
// once.
func threads() error {
	const many = 8
	var began, over sync.WaitGroup
	end := make(chan struct{})
	for range many {
		began.Add(1)
		over.Go(func() {
			runtime.LockOSThread()
			began.Done()
			<-end
		})
	}
	began.Wait()
	defer over.Wait()
	defer close(end)
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) < many {
		return fmt.Errorf("%d threads, %v", len(tasks), err)
	}
	seen := map[string]bool{}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch key {
			case "CapPrm", "CapEff", "NoNewPrivs", "Seccomp":
				if fact := key + "=" + strings.TrimLeft(strings.TrimSpace(value), "0"); !seen[fact] {
					seen[fact] = true
				}
			}
		}
	}
	for _, fact := range []string{"CapPrm=400", "CapEff=400", "NoNewPrivs=1", "Seccomp=2"} {
		if !seen[fact] {
			return fmt.Errorf("no thread has %s: %v", fact, seen)
		}
		delete(seen, fact)
	}
	if len(seen) > 0 {
		return fmt.Errorf("some threads have %v", seen)
	}
	return nil
}

// pure is this test binary without cgo, like the device's: with cgo there are threads that Go cannot reach.
var pure = sync.OnceValues(func() (string, error) {
	path := stage + "/pure"
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// itself runs a scene in a process that confines itself, born as PID 1 has it born.
func itself(t *testing.T, l Launch, name string, environ ...string) (string, int) {
	t.Helper()
	needRoot(t)
	l.Command = []string{attacker}
	orders, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	program, err := pure()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Args = []string{"itself"}
	cmd.Env = append(environ, sceneVariable+"="+name, Variable+"="+orders)
	cmd.Dir = "/"
	if l.Confinement.OwnMounts() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
}

// TestAdopt: what a running process puts on itself holds for all its threads, also those to come.
func TestAdopt(t *testing.T) {
	dir := newDir(t)
	bounded := spec.Confinement{Bounded: true, Capabilities: []string{"CAP_NET_BIND_SERVICE"}, NoNewPrivileges: true}
	strict := bounded
	strict.Seccomp = "strict"
	mounts := strict
	mounts.Seccomp, mounts.ReadOnlyPaths, mounts.HiddenPaths = "daemon", []string{dir}, []string{"/root"}
	for _, c := range []struct {
		name, scene, want string
		l                 Launch
	}{
		{"threads", "threads", "done", box(strict)},
		{"what it starts", "exec", "CapPrm:\t0000000000000400", box(bounded)}, // root's execve gives all back otherwise
		{"with a filter it starts nothing", "exec", "EPERM", box(strict)},
		{"fork", "fork", "EPERM", box(strict)},
		{"a daemon", "daemon", "done", box(strict)},
		{"packet", "packet", "EPERM", box(strict)},
		{"mount", "umount", "EPERM", box(mounts)},
		{"read-only", "write", "open " + dir + "/x: read-only file system", box(mounts)},
		{"writable", "write", "done", box(strict)},
		{"orders are not left behind", "orders", "2 done", Launch{Listen: 2, Confinement: bounded}},
	} {
		out, code := itself(t, c.l, c.scene, "AT="+dir+"/x", "LISTEN_FDS=9")
		if want(t, c.name, out, c.want); code != 0 {
			t.Errorf("%s: exit code %d", c.name, code)
		}
	}
	if mounted(t, dir) {
		t.Error("a mount of the confined process is seen by others")
	}
}

func TestAdoptFails(t *testing.T) {
	for _, c := range []struct {
		l    Launch
		code int
		text string
	}{
		{Launch{User: "7", Group: "7"}, exitOrders, "a launch is needed"},
		{box(spec.Confinement{Bounded: true}), exitOrders, "a launch is needed"},
		{box(spec.Confinement{Seccomp: "lax"}), exitSeccomp, "find seccomp profile lax"},
		{box(spec.Confinement{HiddenPaths: []string{"/no/such"}}), exitMount, "hide /no/such"},
		{box(spec.Confinement{Bounded: true, NoNewPrivileges: true, Capabilities: []string{"CAP_NONE"}}),
			exitCapability, "no capability CAP_NONE"},
	} {
		if out, code := itself(t, c.l, "ids"); code != c.code || !strings.Contains(out, c.text) {
			t.Errorf("%+v: %d %s, want %d %s", c.l, code, out, c.code, c.text)
		}
	}
	if code := Adopt(); code != 0 {
		t.Errorf("without orders: %d", code)
	}
}
