package sshd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// asHostile is what has become of the process of a connection when a stranger has taken it over.
const asHostile = "-be-hostile"

const clientLine = "SSH-2.0-x\r\n"

// hostile tries what a stranger would, and tells the client what came of it.
func hostile() {
	conn := os.NewFile(connectionFD, "connection")
	pid := os.Getpid()
	// with something unread the connection is reset, and what it says is lost
	io.ReadFull(conn, make([]byte, len(clientLine)))
	say := func(what string, err error) { fmt.Fprintf(conn, "%s: %v\n", what, err) }
	for _, path := range []string{"/etc/shadow", "/etc/passwd", "/proc/self/maps"} {
		_, err := unix.Open(path, unix.O_RDONLY, 0)
		say("open", err)
	}
	_, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
	say("fork", err)
	say("exec", syscall.Exec("/bin/true", []string{"true"}, nil))
	say("kill parent", unix.Kill(os.Getppid(), 0))
	say("kill itself", unix.Kill(pid, 0))
	say("tgkill", unix.Tgkill(pid, unix.Gettid(), 0))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	say("socket", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("unix socket", err)
	_, err = unix.PidfdOpen(1, 0)
	say("pidfd", err)
	say("ptrace", unix.PtraceAttach(os.Getppid()))
	say("become root", unix.Setresuid(0, 0, 0))
	say("mount", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	say("remove", unix.Unlink("/nowhere"))
	fmt.Fprintf(conn, "end %d\n", unix.Getppid()) // getppid is not allowed: -1
}

// pureDir holds what pure builds; TestMain removes it.
var pureDir string

// pure is this test binary without cgo, like the device's: with cgo there are threads that Go cannot reach.
var pure = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sshd-test-")
	if err != nil {
		return "", err
	}
	pureDir = dir
	path := filepath.Join(dir, "pure")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
})

// confined has the process of each connection confined, as on a device.
func confined(t *testing.T, as string) func(*Config) {
	t.Helper()
	testenv.NeedRoot(t, "to start a process that is not root")
	program, err := pure()
	if err != nil {
		t.Fatal(err)
	}
	connection, err := Confined(func() *exec.Cmd { return exec.Command(program, as) })
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Connection = connection }
}

// children are the processes that this one has started and not waited for.
func children(t *testing.T) (pids []string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatalf("children not read: %v", err)
	}
	for _, path := range lists {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// newChild is the process that was not there before and plays that part; empty: there is none.
func newChild(t *testing.T, before []string, part string) string {
	t.Helper()
	for _, pid := range children(t) {
		args, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil && !slices.Contains(before, pid) && strings.Contains(string(args), part) {
			return pid
		}
	}
	return ""
}

// TestTakenOver: who takes the process over that strangers talk to can do nothing with it but talk.
func TestTakenOver(t *testing.T) {
	f := newFixture(t, confined(t, asHostile))
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, clientLine)
	said, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, said, _ = cutLine(said) // the server's greeting
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	if len(lines) != 16 || lines[15] != "end -1" {
		t.Errorf("it says %q", lines)
	}
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasSuffix(line, ": operation not permitted") {
			t.Errorf("it can: %s", line)
		}
	}
}

func cutLine(text []byte) (line, rest []byte, found bool) {
	at := slices.Index(text, '\n')
	return text[:max(at, 0)], text[at+1:], at >= 0
}

// TestBeforeLogin: what is known of the process from outside, while its client has not logged in.
func TestBeforeLogin(t *testing.T) {
	f := newFixture(t, confined(t, asConnection))
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, clientLine)
	var seen string
	testenv.WaitFor(t, "a confined process", func() bool {
		for _, pid := range children(t) {
			text, _ := os.ReadFile("/proc/" + pid + "/status") // one that has ended is none
			if seen = string(text); strings.Contains(seen, "Seccomp:\t2") {
				return true
			}
		}
		return false
	})
	for _, want := range []string{"Uid:\t74\t74\t74\t74", "Gid:\t74\t74\t74\t74", "Groups:\t \n",
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(seen, want) {
			t.Errorf("its status lacks %q:\n%s", want, seen)
		}
	}
}

// TestConfinedWorks: all that a client can ask for works out of the confinement.
func TestConfinedWorks(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := newFixture(t, confined(t, asConnection))
	client, err := dial(f.addr, f.key)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	newSession := func() *ssh.Session {
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if out, err := newSession().Output("id -u; head -c 3000000 /dev/zero | wc -c"); err != nil ||
		string(out) != "0\n3000000\n" {
		t.Errorf("a command: %q, %v", out, err)
	}
	s := newSession()
	if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(33, 101); err != nil {
		t.Error(err)
	}
	if out, err := s.Output("stty size"); err != nil || string(out) != "33 101\r\n" {
		t.Errorf("a terminal: %q, %v", out, err)
	}
	files, err := sftp.NewClient(client)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := files.Stat("/etc/passwd"); err != nil || info.Size() == 0 {
		t.Errorf("sftp: %v, %v", info, err)
	}
	files.Close()
	if conn, err := client.Dial("tcp", f.addr); err != nil {
		t.Errorf("a forwarded port: %v", err)
	} else {
		greeting := make([]byte, 4)
		if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "SSH-" {
			t.Errorf("a forwarded port says %q, %v", greeting, err)
		}
		conn.Close()
	}
	l, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, "from the client")
			conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || string(text) != "from the client" {
		t.Errorf("a remote port says %q, %v", text, err)
	}
	conn.Close()
	if err := sshagent.ForwardToAgent(client, sshagent.NewKeyring()); err != nil {
		t.Fatal(err)
	}
	s = newSession()
	if err := sshagent.RequestAgentForwarding(s); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("test -S $SSH_AUTH_SOCK && echo there"); err != nil || string(out) != "there\n" {
		t.Errorf("an agent: %q, %v", out, err)
	}
}

// TestPartsKilled: whichever of the two processes of a connection is killed, the connection ends with all that it had
// running, leaves nothing, and no other one notices.
func TestPartsKilled(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	f := newFixture(t, nil)
	other := newTalk(t, f.session())
	other.check("before\n")
	before := children(t)
	for _, part := range []string{asConnection, asRoot} {
		client, err := dial(f.addr, f.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := sshagent.ForwardToAgent(client, sshagent.NewKeyring()); err != nil {
			t.Fatal(err)
		}
		s, err := client.NewSession()
		if err == nil {
			err = sshagent.RequestAgentForwarding(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start("echo $$; exec sleep 1000"); err != nil {
			t.Fatal(err)
		}
		var running int
		if _, err := fmt.Fscan(out, &running); err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(newChild(t, before, part))
		if err == nil {
			err = unix.Kill(number, unix.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		within(t, "the end of the connection, "+part+" killed", func() { client.Wait() })
		testenv.WaitFor(t, "the end of what ran, "+part+" killed", func() bool { return unix.Kill(running, 0) != nil })
		testenv.WaitFor(t, "the end of both processes, "+part+" killed", func() bool {
			return !slices.ContainsFunc(children(t), func(pid string) bool { return !slices.Contains(before, pid) })
		})
		testenv.WaitFor(t, "an empty temporary directory, "+part+" killed", func() bool {
			left, err := os.ReadDir(tmp)
			return err == nil && !slices.ContainsFunc(left,
				func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "ssh-") })
		})
		other.check("after " + part + "\n")
	}
}
