package sshconn

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// The client that people use sends more kinds of requests than Go's, and waits for the end in its own way.
func TestOpenSSHClient(t *testing.T) {
	testenv.NeedProgram(t, "ssh")
	f := newFixture(t, nil)
	host, port, _ := net.SplitHostPort(f.addr)
	options := []string{"-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=1"}
	run := func(name, portFlag, stdin string, args ...string) (string, int) {
		cmd := exec.Command(name, append(append([]string{portFlag, port}, options...), args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, tt := range []struct {
		name, stdin string
		args        []string
		out         string
		status      int
	}{
		{"exit status", "", []string{"root@" + host, "echo out; exit 7"}, "out\n", 7},
		// by itself: two streams have no order
		{"error stream", "", []string{"root@" + host, "echo err >&2; exit 8"}, "err\n", 8},
		{"stdin", "hello", []string{"root@" + host, "cat"}, "hello", 0},
		{"script on stdin", "echo one\nexit 3\n", []string{"root@" + host}, "one\n", 3},
		{"terminal", "", []string{"-tt", "root@" + host, "test -t 0 && echo tty; exit 4"}, "tty\r\n", 4},
		{"keepalives", "", []string{"root@" + host, "sleep 2.5; echo awake"}, "awake\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if out, status := run("ssh", "-p", tt.stdin, tt.args...); out != tt.out || status != tt.status {
				t.Errorf("ssh says %q, status %d; want %q, %d", out, status, tt.out, tt.status)
			}
		})
	}
	t.Run("port of the device", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if conn, err := l.Accept(); err == nil {
				conn.Write([]byte("from the client's side"))
				conn.Close()
			}
		}()
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, remote, _ := net.SplitHostPort(free.Addr().String())
		free.Close()
		out, status := run("ssh", "-p", "", "-o", "ExitOnForwardFailure=yes", "-R", remote+":"+l.Addr().String(),
			"root@"+host,
			"bash -c 'exec 3<>/dev/tcp/127.0.0.1/"+remote+"; cat <&3'")
		if out != "from the client's side" || status != 0 {
			t.Errorf("ssh -R: %q, status %d", out, status)
		}
	})
	t.Run("agent", func(t *testing.T) {
		socket, key := filepath.Join(t.TempDir(), "agent"), filepath.Join(t.TempDir(), "key")
		agent := exec.Command("ssh-agent", "-D", "-a", socket)
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { agent.Process.Kill(); agent.Wait() }()
		t.Setenv("SSH_AUTH_SOCK", socket)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f",
			key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		added := func() bool { return exec.Command("ssh-add", "-q", key).Run() == nil }
		testenv.WaitFor(t, "an agent that listens", added)
		if out, status := run("ssh", "-p", "", "-A", "root@"+host, "ssh-add -l"); status != 0 ||
			!strings.Contains(out, " mine (ED25519)") {
			t.Errorf("ssh -A: %q, status %d", out, status)
		}
		if out, status := run("ssh", "-p", "", "root@"+host, "ssh-add -l"); status == 0 {
			t.Errorf("without -A: %q", out)
		}
	})
	from, to := filepath.Join(f.dir, "from"), filepath.Join(f.dir, "to")
	content := bytes.Repeat([]byte("0123456789"), 500_000)
	if err := os.WriteFile(from, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := run("scp", "-P", "", from, "root@"+host+":"+to); status != 0 {
		t.Fatalf("scp: status %d, %s", status, out)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("scp left %d bytes, %v; want %d", len(got), err, len(content))
	}
}
