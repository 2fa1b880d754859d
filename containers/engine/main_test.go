package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// The test binary is run in four roles: by `go test`; as the first process of its own mount, process and network
// namespaces, from which nothing survives (firstRole); as that process's child, which runs the tests; and as the engine
// itself, when roleVariable names an applet.
const (
	roleVariable   = "ENGINE_TEST_ROLE"
	insideVariable = "ENGINE_TEST_INSIDE"
	firstRole      = "first"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fetcher" { // started by the manager
		if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == unix.ENOTSUP {
			confine = func() error { return nil } // built with cgo; package fetcher tests it without
		}
		main()
		return
	}
	if role := os.Getenv(roleVariable); role != "" {
		os.Unsetenv(roleVariable)
		if role == firstRole {
			os.Exit(runFirst())
		}
		os.Args[0] = role
		main()
		return
	}
	if os.Getuid() == 0 && os.Getenv(insideVariable) == "" {
		os.Exit(runInside())
	}
	code := m.Run()
	if os.Getenv(insideVariable) != "" {
		os.RemoveAll(shimDir()) // what stays costs only space
	}
	os.Exit(code)
}

func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+strconv.Itoa(os.Getpid()), roleVariable+"="+firstRole)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is of the thread
	if err := cmd.Run(); err != nil {
		if code := cmd.ProcessState.ExitCode(); code > 0 {
			return code
		}
		fmt.Fprintln(os.Stderr, "run in namespaces:", err)
		return 1
	}
	return 0
}

// runFirst starts the tests and reaps, as the first process of a device does: a container does not end while a program
// that somebody ran inside it and left behind, as a manager that is killed does with a health check, is not reaped.
func runFirst() int {
	if err := prepareInside(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare namespaces:", err)
		return 1
	}
	tests, err := os.StartProcess("/proc/self/exe", os.Args,
		&os.ProcAttr{Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests:", err)
		return 1
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err != nil && !errors.Is(err, unix.EINTR):
			fmt.Fprintln(os.Stderr, "wait for the tests:", err)
			return 1
		case pid == tests.Pid && status.Exited():
			return status.ExitStatus()
		case pid == tests.Pid:
			fmt.Fprintln(os.Stderr, "the tests were ended by signal", status.Signal())
			return 1
		}
	}
}

func prepareInside() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	// crun refuses a host that has cgroup v1 and v2 at once: it gets v1 alone there. Elsewhere nothing is mounted
	// there.
	if err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) &&
		!errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("leave cgroup v1 alone: %w", err)
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// tools is what the tests run beside the engine.
type tools struct {
	path    string // for PATH: holds the shim
	runtime string
	init    string
	busybox string
}

func findTools(t *testing.T) tools {
	t.Helper()
	if os.Getenv(insideVariable) == "" {
		testenv.Lacking(t, "root, for namespaces and containers")
	}
	var k tools
	k.runtime = findRuntime(t)
	if k.init, _ = filepath.Abs(filepath.Join(crunFiles(), "usr", "bin", "tini-static")); !exists(k.init) {
		testenv.Lacking(t, "tini: make bin/%s/crun/ready", runtime.GOARCH)
	}
	k.busybox = staticBusybox()
	if k.busybox == "" {
		testenv.Lacking(t, "a static busybox: apt-get install busybox-static")
	}
	dir, err := buildShim()
	if err != nil {
		t.Fatal(err)
	}
	k.path = dir
	return k
}

// buildShim builds the shim and the loader of compose files once for all tests, into a directory that TestMain removes.
var buildShim = sync.OnceValues(func() (string, error) {
	for _, p := range [][2]string{{shimName, "resinos/containers/shim"}, {"compose", "resinos/init/tools"},
		{"init", "resinos/init"}} {
		build := exec.Command("go", "build", "-tags", "no_grpc", "-o", filepath.Join(shimDir(), p[0]), p[1])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", p[1], err, out)
		}
	}
	return shimDir(), nil
})

const shimName = "containerd-shim-runc-v2"

// shimDir is this run's own: named after the process outside the namespaces.
func shimDir() string {
	return filepath.Join(os.TempDir(), "engine-shim-"+os.Getenv(insideVariable))
}

// crunFiles is where make bin/ARCH/crun/ready puts what it takes from the board's packages.
func crunFiles() string { return filepath.Join("..", "..", "bin", runtime.GOARCH, "crun") }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// findRuntime makes a copy of the board's crun that finds its C library and its other libraries beside it: this host's
// may be older.
func findRuntime(t *testing.T) string {
	t.Helper()
	files, err := filepath.Abs(filepath.Join(crunFiles(), "usr"))
	if err != nil {
		t.Fatal(err)
	}
	// the pattern is a constant
	linkers, _ := filepath.Glob(filepath.Join(files, "lib", "*-linux-gnu", "ld-linux-*.so.*"))
	if len(linkers) != 1 {
		testenv.Lacking(t, "crun: make bin/%s/crun/ready", runtime.GOARCH)
	}
	testenv.NeedProgram(t, "patchelf")
	copied := filepath.Join(t.TempDir(), "crun")
	out, err := exec.Command("patchelf", "--set-interpreter", linkers[0], "--force-rpath", "--set-rpath",
		filepath.Dir(linkers[0]),
		"--output", copied, filepath.Join(files, "bin", "crun")).CombinedOutput()
	if err != nil {
		t.Fatalf("prepare crun: %v\n%s", err, out)
	}
	return copied
}

func staticBusybox() string {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if exec.Command("ldd", path).Run() != nil { // "not a dynamic executable"
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}
