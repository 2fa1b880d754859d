package confine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// The test binary is three things: the tests, in a mount namespace of their own whose tree is shared, as a device's is;
// the applet, when Variable is set; and, when sceneVariable is, a program that attacks its confinement.
const (
	insideVariable = "RESINOS_CONFINE_INSIDE"
	sceneVariable  = "RESINOS_CONFINE_SCENE"
	stage          = "/mnt" // a tmpfs of the tests, which every user may enter
	attacker       = stage + "/attacker"
	busybox        = stage + "/busybox"
)

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "itself":
		if code := Adopt(); code != 0 {
			os.Exit(code)
		}
		os.Exit(play(os.Getenv(sceneVariable)))
	case os.Getenv(Variable) != "":
		os.Exit(Main(os.Environ()))
	case os.Getenv(sceneVariable) != "":
		os.Exit(play(os.Getenv(sceneVariable)))
	case os.Geteuid() == 0 && os.Getenv(insideVariable) == "":
		fmt.Fprintln(os.Stderr, "enter namespace:", enter())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter executes the tests again in their namespace, in this process, so that go test's descriptors stay.
func enter() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	for _, flag := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|flag, ""); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", stage, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for from, to := range map[string]string{"/proc/self/exe": attacker, "/usr/bin/busybox": busybox} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o755)
		}
		if err != nil {
			return err
		}
	}
	// What the one who started go test left open is no service's.
	if err := unix.CloseRange(3, 1<<20, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), insideVariable+"=1"))
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return
	}
	testenv.Lacking(t, "root and busybox-static")
}

// start is one launch as the manager makes it.
type start struct {
	Launch
	environ []string
	files   []*os.File
}

// run returns what the program printed and how it ended.
func (s start) run(t *testing.T) (string, int) {
	t.Helper()
	needRoot(t)
	orders, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(attacker)
	cmd.Args = []string{"launch"}
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin", "HOME=/root", Variable + "=" + orders}, s.environ...)
	cmd.ExtraFiles = s.files
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	code := cmd.ProcessState.ExitCode()
	if sig := cmd.ProcessState.Sys().(syscall.WaitStatus); sig.Signaled() {
		code = 128 + int(sig.Signal())
	}
	return strings.TrimSpace(out.String()), code
}

// shell runs a line of busybox shell under the launch.
func shell(t *testing.T, l Launch, line string) (string, int) {
	t.Helper()
	l.Command = []string{busybox, "sh", "-c", line}
	return start{Launch: l}.run(t)
}

// scene runs one of our attacks under the launch.
func scene(t *testing.T, l Launch, name string) string {
	t.Helper()
	l.Command = []string{attacker}
	out, code := start{Launch: l, environ: []string{sceneVariable + "=" + name}}.run(t)
	if code != 0 {
		return fmt.Sprintf("%s [%d]", out, code)
	}
	return out
}

// status is the value of a line of /proc/self/status.
func status(t *testing.T, l Launch, key string) string {
	t.Helper()
	out, _ := shell(t, l, "exec "+busybox+" cat /proc/self/status")
	for line := range strings.Lines(out) {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	t.Fatalf("no %s in %s", key, out)
	return ""
}

// newDir returns a new directory on the stage, for all users.
func newDir(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp(stage, "t")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// attach mounts a tmpfs for the length of the test.
func attachTmpfs(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
}

// bindFile lays a file over another, for the length of the test.
func bindFile(t *testing.T, text, over string) {
	t.Helper()
	from := put(t, newDir(t)+"/file", text)
	if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(over, unix.MNT_DETACH) })
}
