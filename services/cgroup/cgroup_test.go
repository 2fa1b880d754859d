package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

// The test binary runs itself in a mount namespace of its own, with a cgroup v2 file system
// mounted at a directory there.
const mountVariable = "RESINOS_CGROUP_MOUNT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(mountVariable); dir != "" {
		if err := syscall.Mount("none", dir, "cgroup2", 0, ""); err != nil {
			println("mount cgroup2:", err.Error())
			os.Exit(77)
		}
	}
	os.Exit(m.Run())
}

// TestInNamespace runs the tests below that need a real cgroup v2.
func TestInNamespace(t *testing.T) {
	if os.Getenv(mountVariable) != "" {
		return
	}
	testenv.NeedRoot(t, "a mount namespace")
	cmd := exec.Command("/proc/self/exe", "-test.run=Real", "-test.v")
	cmd.Env = append(os.Environ(), mountVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77 {
		testenv.Lacking(t, "cgroup v2, which this kernel does not mount: %s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func realTree(t *testing.T) *Tree {
	t.Helper()
	dir := os.Getenv(mountVariable)
	if dir == "" {
		t.Skip("run by TestInNamespace")
	}
	tree, err := Open(filepath.Join(dir, "resinos-test-"+strconv.Itoa(os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.KillAll()
		testenv.WaitFor(t, "the tree is removed", func() bool { return tree.Remove(".") == nil })
	})
	return tree
}

// sleeper starts a process in the group.
func sleeper(t *testing.T, tree *Tree, name string) *exec.Cmd {
	t.Helper()
	dir, err := tree.Join(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestRealLife(t *testing.T) {
	tree := realTree(t)
	if p, err := tree.Populated("a"); p || err != nil {
		t.Errorf("a group that does not exist: %t, %v", p, err)
	}
	cmd := sleeper(t, tree, "a/main")
	other := sleeper(t, tree, "a")
	if p, err := tree.Populated("a"); !p || err != nil {
		t.Errorf("Populated with a process below = %t, %v", p, err)
	}
	if pids, err := tree.Procs("a/main"); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("Procs = %v, %v, want %d", pids, err, cmd.Process.Pid)
	}
	if got := tree.Owner(cmd.Process.Pid); got != "a" {
		t.Errorf("Owner of a's process = %q", got)
	}
	if got := tree.Owner(os.Getpid()); got != "" {
		t.Errorf("Owner of a stranger = %q", got)
	}
	if err := tree.Remove("a"); err == nil {
		t.Error("a populated group can be removed")
	}
	if err := tree.Kill("a"); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	other.Wait()
	if !cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("killed process ended with %s", cmd.ProcessState)
	}
	if p, err := tree.Populated("a"); p || err != nil {
		t.Errorf("Populated after the kill = %t, %v", p, err)
	}
	for range 2 {
		if err := tree.Remove("a"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if err := tree.Kill("a"); err != nil {
		t.Errorf("Kill of a missing group: %v", err)
	}
	if pids, err := tree.Procs("a"); pids != nil || err != nil {
		t.Errorf("Procs of a missing group: %v, %v", pids, err)
	}
}

// TestRealRestartBesideOthers: the engine's main process is born again in its leaf while the old
// one's children still live there, and while its group has children of its own.
func TestRealRestartBesideOthers(t *testing.T) {
	tree := realTree(t)
	shim := sleeper(t, tree, "engine/main")
	container := sleeper(t, tree, "engine/app-1")
	again := sleeper(t, tree, "engine/main")
	if pids, _ := tree.Procs("engine/main"); len(pids) != 2 {
		t.Errorf("the leaf holds %v", pids)
	}
	if err := tree.KillAll(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{shim, container, again} {
		cmd.Wait()
	}
	if p, _ := tree.Populated("."); p {
		t.Error("something lives after KillAll")
	}
}

// TestRealBornAfterKill: a killed group is created again, so that the next life is not killed at birth.
func TestRealBornAfterKill(t *testing.T) {
	tree := realTree(t)
	for range 3 {
		first := sleeper(t, tree, "a")
		if dir, err := tree.Create("a"); err == nil {
			dir.Close()
			t.Error("Create succeeds while a process lives in the group")
		}
		if err := tree.Kill("a"); err != nil {
			t.Fatal(err)
		}
		first.Wait()
		dir, err := tree.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		dir.Close()
	}
	last := sleeper(t, tree, "a")
	testenv.Never(t, 20*time.Millisecond, "the life after a kill is killed", func() bool {
		pids, _ := tree.Procs("a")
		return len(pids) != 1 || pids[0] != last.Process.Pid
	})
	tree.KillAll()
	last.Wait()
}

func TestNoCgroup2(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "resinos")); !errors.Is(err, ErrNoCgroup2) {
		t.Errorf("Open on another file system gives %v", err)
	}
	if _, err := Open("/no/such/dir"); err == nil {
		t.Error("Open below a missing directory succeeds")
	}
}

// fakeTree is a directory that looks like a tree.
func fakeTree(t testing.TB, files map[string]string) *Tree {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &Tree{root: root, path: "/resinos"}
}

func TestFakeFiles(t *testing.T) {
	tree := fakeTree(t, map[string]string{
		"a/cgroup.events": "populated 1\nfrozen 0\n", "a/cgroup.procs": "30\n4\nx\n", "a/cgroup.kill": "",
		"b/cgroup.events": "populated 0\nfrozen 1\n",
	})
	if p, err := tree.Populated("a"); !p || err != nil {
		t.Errorf("Populated(a) = %t, %v", p, err)
	}
	if p, err := tree.Populated("b"); p || err != nil {
		t.Errorf("Populated(b) = %t, %v", p, err)
	}
	if pids, err := tree.Procs("a"); err != nil || len(pids) != 2 || pids[0] != 4 {
		t.Errorf("Procs(a) = %v, %v", pids, err)
	}
	if err := tree.Kill("a"); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(filepath.Join(tree.root, "a/cgroup.kill")); string(data) != "1" {
		t.Errorf("Kill wrote %q", data)
	}
	dir, err := tree.Create("c/main")
	if err != nil {
		t.Fatal(err)
	}
	dir.Close()
}

func TestOwner(t *testing.T) {
	for text, want := range map[string]string{
		"0::/resinos/netd\n":            "netd",
		"0::/resinos/containerd/main\n": "containerd",
		"4:memory:/x\n0::/resinos/a\n":  "a",
		"4:memory:/resinos/a\n0::/\n":   "",
		"0::/resinos\n":                 "",
		"0::/other/a\n":                 "",
		"0::/resinosish/a\n":            "",
		"":                              "",
		"garbage":                       "",
		"0::/resinos/a (deleted)\n":     "a (deleted)",
	} {
		if got := owner("/resinos", text); got != want {
			t.Errorf("owner(%q) = %q, want %q", text, got, want)
		}
	}
}
