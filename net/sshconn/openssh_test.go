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
		{"error stream", "", []string{"root@" + host, "echo err >&2; exit 8"}, "err\n", 8}, // by itself: two streams have no order
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
