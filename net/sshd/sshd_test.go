package sshd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// fixture is a running server.
type fixture struct {
	t    *testing.T
	addr string
	dir  string
	stop func() // ends the server and waits for it
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	cfg := Config{HostKeyDir: filepath.Join(f.dir, "keys"), NoAuth: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, cfg.withDefaults(), l.(*net.TCPListener)) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve = %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("server did not end within 10 s")
		}
	})
	t.Cleanup(f.stop)
	return f
}

func clientConfig(user string) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second}
}

func (f *fixture) dial() *ssh.Client {
	f.t.Helper()
	c, err := ssh.Dial("tcp", f.addr, clientConfig("root"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fixture) session() *ssh.Session {
	f.t.Helper()
	s, err := f.dial().NewSession()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// within fails the test if fn takes longer.
func within(t *testing.T, limit time.Duration, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s: not within %s", what, limit)
	}
}

func TestExitStatus(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial()
	for _, tt := range []struct {
		command string
		status  int
		signal  string
	}{
		{"true", 0, ""},
		{"false", 1, ""},
		{"exit 42", 42, ""},
		{"exit 255", 255, ""},
		{"no-such-command-here", 127, ""},
		{"kill -TERM $$", 0, "TERM"},
		{"kill -KILL $$", 0, "KILL"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			s, err := c.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			err = s.Run(tt.command)
			status, signal := 0, ""
			if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
				status, signal = exit.ExitStatus(), exit.Signal()
			} else if err != nil {
				t.Fatal(err)
			}
			if signal != tt.signal || signal == "" && status != tt.status {
				t.Errorf("ended with status %d signal %q, want %d %q", status, signal, tt.status, tt.signal)
			}
		})
	}
}

func TestMissingShellSaysSo(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Shell = "/no/such/shell" })
	s := f.session()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	exit := (*ssh.ExitError)(nil)
	if err := s.Run("true"); !errors.As(err, &exit) || exit.ExitStatus() != 127 {
		t.Errorf("Run = %v, want status 127", err)
	}
	if !strings.Contains(stderr.String(), "/no/such/shell") {
		t.Errorf("stderr = %q, want the shell named", &stderr)
	}
}

// All output must arrive, and before the exit status, however the two streams are mixed.
func TestBigOutput(t *testing.T) {
	f := newFixture(t, nil)
	for range 3 {
		s := f.session()
		var stderr bytes.Buffer
		s.Stderr = &stderr
		out, err := s.Output("head -c 10485760 /dev/zero; head -c 1000000 /dev/zero >&2; echo last; exit 3")
		exit := (*ssh.ExitError)(nil)
		if !errors.As(err, &exit) || exit.ExitStatus() != 3 {
			t.Errorf("Output = %v, want status 3", err)
		}
		if len(out) != 10485760+5 || !bytes.HasSuffix(out, []byte("last\n")) || stderr.Len() != 1000000 {
			t.Errorf("got %d bytes and %d on stderr, want 10485765 and 1000000", len(out), stderr.Len())
		}
	}
}

func TestStdinIsPiped(t *testing.T) {
	f := newFixture(t, nil)
	input := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	s := f.session()
	s.Stdin = bytes.NewReader(input)
	out, err := s.Output("sha256sum")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(input)); !strings.HasPrefix(string(out), want) {
		t.Errorf("sha256sum = %s, want %s", out, want)
	}
}

// A command that does not read its input must not keep the session, nor the connection's other sessions.
func TestStdinNobodyReads(t *testing.T) {
	f := newFixture(t, nil)
	s := f.session()
	s.Stdin = io.LimitReader(zeroes{}, 8<<20)
	within(t, 10*time.Second, "command that ignores its input", func() {
		if err := s.Start("sleep 0.2; echo done"); err != nil {
			t.Error(err)
		}
		s.Wait() // the client complains about the input that nobody took
	})
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestEnvironment(t *testing.T) {
	f := newFixture(t, nil)
	s := f.session()
	s.Setenv("LC_ALL", "C.UTF-8")
	if s.Setenv("LD_PRELOAD", "/tmp/x.so") == nil {
		t.Error("LD_PRELOAD was accepted")
	}
	out, err := s.Output(`echo "$PATH|$HOME|$USER|$LOGNAME|$SHELL|$LC_ALL|$LD_PRELOAD|$TERM|$(pwd)"; cat /proc/self/oom_score_adj`)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|%[1]s|root|root|/bin/sh|C.UTF-8|||%[1]s\n0\n", home())
	if string(out) != want {
		t.Errorf("environment = %q, want %q", out, want)
	}
}

func TestTerminal(t *testing.T) {
	f := newFixture(t, nil)
	s := f.session()
	if err := s.RequestPty("xterm-256color", 33, 101, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	read := func(until string) string {
		var got []byte
		within(t, 10*time.Second, "reading until "+until, func() {
			buf := make([]byte, 4096)
			for !bytes.Contains(got, []byte(until)) {
				n, err := out.Read(buf)
				got = append(got, buf[:n]...)
				if err != nil {
					return
				}
			}
		})
		return string(got)
	}
	io.WriteString(in, "stty size; echo $TERM; tty; echo fir''st\n")
	if got := read("first\r\n"); !strings.Contains(got, "33 101\r\n") || !strings.Contains(got, "xterm-256color\r\n") || !strings.Contains(got, "/dev/pts/") {
		t.Errorf("terminal says %q", got)
	}
	if err := s.WindowChange(50, 132); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // a flood of changes must not block the session
		s.WindowChange(50, 132)
	}
	io.WriteString(in, "stty size; echo sec''ond\n")
	if got := read("second\r\n"); !strings.Contains(got, "50 132\r\n") {
		t.Errorf("after the change, terminal says %q", got)
	}
	io.WriteString(in, "exit 5\n")
	exit := (*ssh.ExitError)(nil)
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 5 {
		t.Errorf("Wait = %v, want status 5", err)
	}
}

// The last lines of a terminal must not be lost when its shell ends at once.
func TestTerminalOutputIsWhole(t *testing.T) {
	f := newFixture(t, nil)
	c := f.dial()
	for i := range 20 {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RequestPty("vt100", 24, 80, nil); err != nil {
			t.Fatal(err)
		}
		out, err := s.Output("seq 1 20000")
		if err != nil || !bytes.HasSuffix(out, []byte("\r\n20000\r\n")) || bytes.Count(out, []byte("\n")) != 20000 {
			t.Fatalf("run %d: %v, %d lines, ending %q", i, err, bytes.Count(out, []byte("\n")), out[max(0, len(out)-20):])
		}
	}
}

// pidOf starts a command that prints its process id first.
func pidOf(t *testing.T, s *ssh.Session, command string) int {
	t.Helper()
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo $$; " + command); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d lives on", pid)
		}
	}
}

func TestSignalReachesTheGroup(t *testing.T) {
	f := newFixture(t, nil)
	s := f.session()
	pid := pidOf(t, s, "sleep 1000")
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit := (*ssh.ExitError)(nil)
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("Wait = %v, want SIGTERM", err)
	}
	waitGone(t, pid)
}

func TestHangUp(t *testing.T) {
	for _, pty := range []bool{false, true} {
		for _, how := range []string{"client closes", "server ends"} {
			t.Run(fmt.Sprintf("pty %t, %s", pty, how), func(t *testing.T) {
				f := newFixture(t, nil)
				c := f.dial()
				s, err := c.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				if pty {
					s.RequestPty("vt100", 24, 80, nil)
				}
				pid := pidOf(t, s, "sleep 1000; sleep 1000")
				if how == "client closes" {
					c.Close()
				} else {
					f.stop()
				}
				waitGone(t, pid)
			})
		}
	}
}

// What set itself apart outlives its session, and a session without a terminal ends although it lives.
func TestDetachedProcessLivesOn(t *testing.T) {
	f := newFixture(t, nil)
	s := f.session()
	out, err := s.Output("setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	fmt.Sscan(string(out), &pid)
	f.stop()
	if !alive(pid) {
		t.Fatal("detached process died with the server")
	}
	unix.Kill(pid, unix.SIGKILL)
}

func TestManySessions(t *testing.T) {
	f := newFixture(t, nil)
	for _, how := range []string{"connections", "sessions of one connection"} {
		t.Run(how, func(t *testing.T) {
			one := f.dial()
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					c := one
					if how == "connections" {
						var err error
						if c, err = ssh.Dial("tcp", f.addr, clientConfig("root")); err != nil {
							t.Error(err)
							return
						}
						defer c.Close()
					}
					s, err := c.NewSession()
					if err != nil {
						t.Error(err)
						return
					}
					out, err := s.Output(fmt.Sprintf("echo %d; sleep 0.2; echo %d", i, i))
					if want := fmt.Sprintf("%d\n%d\n", i, i); err != nil || string(out) != want {
						t.Errorf("session %d: %q, %v", i, out, err)
					}
				})
			}
			all.Wait()
		})
	}
}

func TestSftp(t *testing.T) {
	f := newFixture(t, nil)
	c, err := sftp.NewClient(f.dial())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(f.dir, "file")
	content := bytes.Repeat([]byte("x"), 3<<20)
	w, err := c.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("file has %d bytes, %v; want %d", len(got), err, len(content))
	}
	r, err := c.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read back %d bytes, %v", len(got), err)
	}
	if _, err := c.Stat("/no/such/file"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat of a missing file = %v", err)
	}
}

// A client that has sent its question and ended its side still gets the answer.
func TestForwardWithHalfClose(t *testing.T) {
	f := newFixture(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		question, _ := io.ReadAll(conn)
		conn.Write(bytes.Repeat(question, 1000))
		conn.Close()
	}()
	client := f.dial()
	conn, err := client.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("question"))
	conn.(interface{ CloseWrite() error }).CloseWrite()
	within(t, 10*time.Second, "answer", func() {
		if answer, err := io.ReadAll(conn); err != nil || len(answer) != 8000 {
			t.Errorf("answer has %d bytes, %v; want 8000", len(answer), err)
		}
	})
	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a closed port was forwarded")
	}
}

func TestOnlyRootLogsIn(t *testing.T) {
	f := newFixture(t, nil)
	if c, err := ssh.Dial("tcp", f.addr, clientConfig("guest")); err == nil {
		c.Close()
		t.Error("guest logged in")
	}
	cfg := clientConfig("root")
	cfg.Auth = []ssh.AuthMethod{ssh.Password("")}
	c, err := ssh.Dial("tcp", f.addr, cfg)
	if err != nil {
		t.Fatalf("root with an empty password: %v", err)
	}
	c.Close()
}

func TestRefusesToServeWithoutNoAuth(t *testing.T) {
	if err := Run(t.Context(), Config{Addr: "127.0.0.1:0", HostKeyDir: t.TempDir()}); err == nil {
		t.Error("Run without NoAuth served")
	}
}

func TestGarbageBeforeHandshake(t *testing.T) {
	f := newFixture(t, nil)
	for name, garbage := range map[string][]byte{
		"nothing":     {},
		"http":        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeroes":      make([]byte, 100_000),
		"long line":   bytes.Repeat([]byte("A"), 1<<20),
		"huge packet": append([]byte("SSH-2.0-x\r\n"), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0),
		"half key":    append([]byte("SSH-2.0-x\r\n"), 0, 0, 0, 12, 10, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
	} {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		conn.Write(garbage) // the server may close first
		if tcp := conn.(*net.TCPConn); tcp != nil {
			tcp.CloseWrite()
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the server keeps the connection", name)
		}
		conn.Close()
	}
	if out, err := f.session().Output("echo fine"); err != nil || string(out) != "fine\n" {
		t.Errorf("after the garbage: %q, %v", out, err)
	}
}

// Ten times as many silent connections as may wait must neither lock others out nor stay.
func TestStalledHandshakes(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.HandshakeTimeout = 2 * time.Second })
	var silent []net.Conn
	for range 10 * maxPending {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	began := time.Now()
	if out, err := f.session().Output("echo fine"); err != nil || string(out) != "fine\n" {
		t.Fatalf("beside stalled handshakes: %q, %v", out, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("login beside stalled handshakes took %s", took)
	}
	for i, conn := range silent {
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("silent connection %d is still open", i)
		}
	}
}

func TestHostKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hostkeys")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	print := func() string { return ssh.FingerprintSHA256(hostKey(dir, log).PublicKey()) }
	path := filepath.Join(dir, keyFile)
	first := print()
	if second := print(); second != first {
		t.Errorf("second start has key %s, want %s", second, first)
	}
	os.Chmod(path, 0o644)
	if print() != first {
		t.Error("a key that others could read was thrown away")
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", info.Mode())
	}
	for name, content := range map[string]string{"empty": "", "cut": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"} {
		os.WriteFile(path, []byte(content), 0o600)
		if print() == first {
			t.Errorf("%s: old key came back", name)
		}
		if kept, again := print(), print(); kept != again {
			t.Errorf("%s: the new key was not kept", name)
		}
	}
	if nowhere := hostKey("/proc/no/such/folder", log); nowhere == nil {
		t.Error("no key where none can be kept")
	}
}

// passed opens a socket as PID 1 does, and keeps it.
func passed(t *testing.T) (addr string, file *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the file has its own descriptor
	file, err = l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return l.Addr().String(), file
}

// dup is what a process that is started inherits.
func dup(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestIdle: it leaves when nobody is connected, not before, and who comes later is served by the next one.
func TestIdle(t *testing.T) {
	addr, kept := passed(t)
	cfg := Config{HostKeyDir: t.TempDir(), NoAuth: true, Idle: 400 * time.Millisecond, Passed: dup(t, kept)}
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), cfg) }()
	client, err := ssh.Dial("tcp", addr, clientConfig("root"))
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := session.Output("sleep 1; echo still here"); err != nil || string(out) != "still here\n" {
		t.Errorf("a session longer than the idle time: %q, %v", out, err)
	}
	select {
	case err := <-done:
		t.Fatalf("it left while a client was connected: %v", err)
	default:
	}
	client.Close()
	within(t, 10*time.Second, "leaving", func() {
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	late := make(chan error, 1)
	go func() { // nobody serves now: the socket keeps it
		c, err := ssh.Dial("tcp", addr, clientConfig("root"))
		if err == nil {
			c.Close()
		}
		late <- err
	}()
	cfg.Passed = dup(t, kept)
	go func() { done <- Run(t.Context(), cfg) }()
	within(t, 10*time.Second, "the next server", func() {
		if err := errors.Join(<-late, <-done); err != nil {
			t.Error(err)
		}
	})
}

// TestOwnSocketStays: who opened the port itself must not leave it.
func TestOwnSocketStays(t *testing.T) {
	cfg := Config{Addr: "127.0.0.1:0", Idle: time.Millisecond}
	l, err := cfg.listen()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if cfg.Idle != 0 {
		t.Errorf("Idle = %v on a socket of our own", cfg.Idle)
	}
}

func TestPassedSocketOfAnotherKind(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cfg := Config{HostKeyDir: t.TempDir(), NoAuth: true, Passed: dup(t, f)}
	if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "unix") {
		t.Errorf("Run = %v", err)
	}
}
