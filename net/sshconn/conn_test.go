package sshconn

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

	"resinos/mounts/testenv"
	"resinos/net/sshaccess"
	"resinos/net/sshaccess/accesstest"
	"resinos/net/sshmsg"
	"resinos/net/sshroot"
)

// fixture is a running server.
type fixture struct {
	t    testing.TB
	addr string
	dir  string
	stop func() // ends the server and waits for it
}

func newFixture(t testing.TB, change func(*setup)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	key, _ := accesstest.NewSigner(t)
	cfg := setup{HostKey: key, NoAuth: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(ctx, cfg, outside{conn}) })
		}
	})
	done := make(chan struct{})
	f.stop = sync.OnceFunc(func() {
		cancel()
		l.Close()
		go func() { running.Wait(); close(done) }()
		testenv.Receive(t, "the end of the connections", done)
	})
	t.Cleanup(f.stop)
	return f
}

// setup is what the three parts are told.
type setup struct {
	HostKey  ssh.Signer
	NoAuth   bool
	Settings string
	Shell    string
	Log      *slog.Logger
}

// TestClientGone: a client that has reset its connection before the process of the connection takes it has no address.
func TestClientGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	file, err := accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	client.(*net.TCPConn).SetLinger(0) // it ends with a reset
	client.Close()
	if _, err := accepted.Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection is still there")
	}
	accepted.Close()
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	if conn.RemoteAddr() != nil {
		t.Fatalf("the kernel still knows %v", conn.RemoteAddr())
	}
	gate, gateFile, err := sshmsg.Pair()
	if err != nil {
		t.Fatal(err)
	}
	gateFile.Close() // sshd does not answer
	Serve(t.Context(), Config{}, conn, gate)
}

// serve serves a connection with all three parts in this process.
func serve(ctx context.Context, cfg setup, conn net.Conn) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	asked, gateFile, err := sshmsg.Pair()
	if err != nil {
		panic(err)
	}
	gate, err := sshmsg.Take(gateFile)
	if err != nil {
		panic(err)
	}
	var others sync.WaitGroup
	defer others.Wait()
	g := sshaccess.Gate{HostKey: cfg.HostKey, NoAuth: cfg.NoAuth, Settings: cfg.Settings, Remote: conn.RemoteAddr(),
		Local: conn.LocalAddr(), Log: cfg.Log}
	g.Enter = func(bool) (*os.File, error) {
		main, root, err := sshmsg.Pair()
		if err != nil {
			return nil, err
		}
		others.Go(func() {
			sshroot.Serve(context.WithoutCancel(ctx), sshroot.Config{HostKey: cfg.HostKey, Shell: cfg.Shell,
				Log:    cfg.Log,
				Remote: conn.RemoteAddr().String(), Local: conn.LocalAddr().String()}, main)
		})
		return root, nil
	}
	others.Go(func() { g.Serve(asked, time.Minute) })
	Serve(ctx, Config{Log: cfg.Log}, conn, gate)
}

// outside is a connection that seems to come from somewhere else: from the device itself is not allowed without a key.
type outside struct{ net.Conn }

func (outside) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711} }

func clientConfig(user string) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: testenv.Patience()}
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

// within fails the test if fn does not return.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	testenv.Receive(t, what, done)
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
	f := newFixture(t, func(c *setup) { c.Shell = "/no/such/shell" })
	s := f.session()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	exit := (*ssh.ExitError)(nil)
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 127 {
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
	within(t, "command that ignores its input", func() {
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
	out, err := s.Output(
		`echo "$PATH|$HOME|$USER|$LOGNAME|$SHELL|$LC_ALL|$LD_PRELOAD|$TERM|$(pwd)"; cat /proc/self/oom_score_adj`)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(
		"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|%[1]s|root|root|/bin/sh|C.UTF-8|||%[1]s\n0\n",
		sshroot.Home())
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
		within(t, "reading until "+until, func() {
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
	if got := read("first\r\n"); !strings.Contains(got, "33 101\r\n") || !strings.Contains(got, "xterm-256color\r\n") ||
		!strings.Contains(got, "/dev/pts/") {
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
			t.Fatalf("run %d: %v, %d lines, ending %q", i, err, bytes.Count(out, []byte("\n")),
				out[max(0, len(out)-20):])
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
	testenv.WaitFor(t, fmt.Sprintf("the end of process %d", pid), func() bool { return !alive(pid) })
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
	within(t, "answer", func() {
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
