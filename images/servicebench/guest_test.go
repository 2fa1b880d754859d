package servicebench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// planVariable names the file with the plan that the re-executed test carries out before it becomes the manager.
const planVariable = "RESINOS_PEERS_PLAN"

// lifeSocket is where, inside the guest, a service tells the rig that it runs.
const lifeSocket = "/bench/life.sock"

func TestMain(m *testing.M) {
	if path := os.Getenv(planVariable); path != "" && os.Getpid() == 1 {
		fmt.Fprintln(os.Stderr, "become the manager:", becomeManager(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// plan is what a guest's root holds and what is executed in it.
type plan struct {
	Files map[string]string // path in the guest -> path on the host
	Texts map[string]string // path in the guest -> content
	Links map[string]string // path in the guest -> what it points to
	Argv  []string
	Root  string // an empty directory on the host that the root's tmpfs is mounted on
	V2    bool   // a cgroup of its own is there
}

// guest is a manager that runs as PID 1 of its own name spaces.
type guest struct {
	pid    int
	output string    // the file with its standard output and error
	begin  time.Time // when the kernel had put the manager in place of our setup
	lives  *lives
	ended  chan struct{} // closed when PID 1 is gone
}

// startGuest carries out the plan in new name spaces and returns once the manager's program runs.
func startGuest(t *testing.T, p plan) *guest {
	t.Helper()
	p.Root = t.TempDir()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "rig"), os.NewFile(uintptr(pair[1]), "guest")
	defer ours.Close()
	cmd := p.command(t)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = output, output // a file, because a pipe's reader would work beside what is measured
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatalf("start name spaces: %v", err)
	}
	g := &guest{pid: cmd.Process.Pid, output: output.Name(), ended: make(chan struct{})}
	go func() {
		defer close(g.ended)
		cmd.Wait() // how it ended does not matter: it is killed when all is measured
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-g.ended })
	l, err := takeListener(ours)
	if err != nil {
		t.Fatalf("prepare the guest: %v; it said:\n%s", err, g.said())
	}
	// The guest's end is closed by the execve, so its end of file is the moment from which the time counts.
	if n, err := ours.Read(make([]byte, 1)); n != 0 {
		t.Fatalf("execute the manager: %v", err)
	}
	g.begin = time.Now()
	g.lives = watch(l)
	t.Cleanup(func() { l.Close(); g.lives.over.Wait() })
	return g
}

// command is this test once more, as PID 1 of name spaces of its own, to carry out the plan.
func (p plan) command(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL,
	}
	p.V2 = testenv.OwnCgroup(t, cmd)
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = []string{planVariable + "=" + file, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// takeListener receives the socket that the guest listens on.
func takeListener(from *os.File) (*net.UnixListener, error) {
	space := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), space, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(space[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("the guest ended before it sent its socket"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fds[0]), lifeSocket)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// said is what the guest wrote: to its console, which is a plain file, and to its standard descriptors.
func (g *guest) said() string {
	console, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/dev/console", g.pid)) // is gone with the guest
	output, err := os.ReadFile(g.output)
	if err != nil {
		return err.Error()
	}
	return string(console) + string(output)
}
