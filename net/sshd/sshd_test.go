package sshd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/sshaccess/accesstest"
	"resinos/net/sshconn"
	"resinos/net/sshmsg"
	"resinos/net/sshroot"
	"resinos/services/config"
	"resinos/services/settings"
)

// The test binary is the program of a connection, and the server where one is to be killed.
const (
	asConnection = "-be-connection"
	asRoot       = "-be-root"
	asServer     = "-be-server"
)

func TestMain(m *testing.M) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == asConnection:
		if code := Confine(); code != 0 {
			os.Exit(code)
		}
		err = Serve(context.Background(), sshconn.Config{Log: log})
	case len(os.Args) == 2 && os.Args[1] == asRoot:
		err = ServeRoot(context.Background(), sshroot.Config{Log: log})
	case len(os.Args) == 4 && os.Args[1] == asServer: // the listening socket is its descriptor 3
		err = Run(context.Background(), Config{Passed: 3, HostKeyDir: os.Args[2], Settings: os.Args[3],
			Connection: connection, Root: root, Log: log})
	case len(os.Args) == 2 && os.Args[1] == asHostile:
		if code := Confine(); code != 0 {
			os.Exit(code)
		}
		hostile()
	default:
		code := m.Run()
		_ = os.RemoveAll(pureDir) // empty: nothing was built
		os.Exit(code)
	}
	if err != nil {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
}

func connection() *exec.Cmd { return exec.Command("/proc/self/exe", asConnection) }
func root() *exec.Cmd       { return exec.Command("/proc/self/exe", asRoot) }

// fixture is a running server, and the key that opens it.
type fixture struct {
	t        *testing.T
	addr     string
	settings string
	key      ssh.Signer
	stop     func() // ends the server and waits for it
}

func newFixture(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.settings, f.key = keyInForce(t)
	cfg := Config{HostKeyDir: filepath.Join(t.TempDir(), "keys"), Settings: f.settings, Connection: connection,
		Root: root, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
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
		within(t, "the end of the server", func() {
			if err := <-done; err != nil {
				t.Errorf("serve = %v", err)
			}
		})
	})
	t.Cleanup(f.stop)
	return f
}

// keyInForce puts a new key in force.
func keyInForce(t *testing.T) (path string, key ssh.Signer) {
	t.Helper()
	key, line := accesstest.NewSigner(t)
	path = filepath.Join(t.TempDir(), "config.json")
	accesstest.Publish(t, path, line)
	return path, key
}

func dial(addr string, key ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", addr, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: testenv.Patience()})
}

func (f *fixture) session() *ssh.Session {
	f.t.Helper()
	c, err := dial(f.addr, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	s, err := c.NewSession()
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

// talk is a session that answers each line it gets.
type talk struct {
	t   *testing.T
	in  io.Writer
	out io.Reader
}

func newTalk(t *testing.T, s *ssh.Session) *talk {
	t.Helper()
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	return &talk{t, in, out}
}

func (x *talk) check(line string) {
	x.t.Helper()
	within(x.t, "the answer "+line, func() {
		io.WriteString(x.in, line)
		got := make([]byte, len(line))
		if _, err := io.ReadFull(x.out, got); err != nil || string(got) != line {
			x.t.Errorf("the session answers %q, %v; want %q", got, err, line)
		}
	})
}

// TestSessionsOutliveTheServer: however it ends, and whoever serves next.
func TestSessionsOutliveTheServer(t *testing.T) {
	f := newFixture(t, nil)
	x := newTalk(t, f.session())
	x.check("before\n")
	f.stop()
	x.check("after the end\n")

	addr, socket := passed(t)
	path, key := keyInForce(t)
	dir := t.TempDir()
	start := func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", asServer, dir, path)
		cmd.ExtraFiles, cmd.Stderr = []*os.File{socket}, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
	open := func() *talk {
		c, err := dial(addr, key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return newTalk(t, s)
	}
	server := start()
	first := open()
	first.check("before\n")
	server.Process.Kill()
	server.Wait()
	first.check("after kill -9\n")
	start()
	second := open()
	second.check("served by the next\n")
	first.check("and the first goes on\n")
}

// TestHandOver: the two processes of a connection have what is theirs, and nothing that is the server's.
func TestHandOver(t *testing.T) {
	before := children(t)
	f := newFixture(t, nil)
	out, err := f.session().Output(`echo $PPID`)
	if err != nil {
		t.Fatal(err)
	}
	asker := newChild(t, before, asConnection)
	// Of a connection: the client's, and one to root for each thing under way. The gate's is closed.
	for pid, most := range map[string]int{strings.TrimSpace(string(out)): 2, asker: 3} {
		fds, err := filepath.Glob("/proc/" + pid + "/fd/*")
		if err != nil || len(fds) == 0 {
			t.Fatalf("process %q: %v, %v", pid, fds, err)
		}
		sockets := 0
		for _, fd := range fds {
			at, _ := os.Readlink(fd) // one that is closed by now is none
			if strings.HasPrefix(at, "socket:") {
				sockets++
			}
			if strings.Contains(at, "inotify") {
				t.Errorf("process %s has the inotify of the server", pid)
			}
		}
		if sockets == 0 || sockets > most {
			t.Errorf("process %s has %d sockets, want 1 to %d", pid, sockets, most)
		}
	}
}

// TestManyLoggedIn: beyond the limit a client is disconnected after it has logged in, and a place that becomes free is
// used.
func TestManyLoggedIn(t *testing.T) {
	cs := newClients(4, 2, 2)
	all := make([]*client, 3)
	for i := range all {
		conn, _ := net.Pipe()
		c, ok := cs.add(conn)
		if !ok || !cs.setProcess(c, nil) {
			t.Fatal("not added")
		}
		all[i] = c
	}
	if got := []admission{cs.admit(all[0]), cs.admit(all[1]), cs.admit(all[2])}; got[0] != admitted ||
		got[1] != admitted || got[2] != full {
		t.Errorf("admissions are %v", got)
	}
	if cs.remove(all[0]); cs.admit(all[2]) != late {
		t.Error("a client that was disconnected is admitted")
	}
}

// TestStrangersWithProcess: of the address with most connections the oldest is closed, and its process killed.
func TestStrangersWithProcess(t *testing.T) {
	cs := newClients(100, 2, 100)
	var first *exec.Cmd
	for i, from := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"} {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		if i == 0 {
			first = cmd
		}
		conn, _ := net.Pipe()
		c, _ := cs.add(fromConn{conn, from})
		if !cs.setProcess(c, cmd.Process) {
			t.Fatalf("client %d is not served", i)
		}
		if i == 2 && cs.admit(c) != admitted {
			t.Error("the client of the other address was disconnected")
		}
	}
	within(t, "the end of the oldest", func() { first.Wait() })
}

type fromConn struct {
	net.Conn
	from string
}

func (c fromConn) RemoteAddr() net.Addr { return name(c.from) }

type name string

func (name) Network() string  { return "tcp" }
func (n name) String() string { return string(n) }

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
		conn.SetDeadline(time.Now().Add(testenv.Patience()))
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
	var processes atomic.Int32
	f := newFixture(t, func(c *Config) {
		c.Timeout = 2 * time.Second
		start := c.Connection
		c.Connection = func() *exec.Cmd { processes.Add(1); return start() }
	})
	var silent []net.Conn
	for range 10 * maxPending {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	if out, err := f.session().Output("echo fine"); err != nil || string(out) != "fine\n" {
		t.Fatalf("beside stalled handshakes: %q, %v", out, err)
	}
	if n := processes.Load(); n != 1 {
		t.Errorf("%d processes for one client that speaks", n)
	}
	for i, conn := range silent {
		conn.SetDeadline(time.Now().Add(testenv.Patience()))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("silent connection %d is still open", i)
		}
	}
}

func TestHostKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hostkeys")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	print := func() string {
		key, err := ssh.ParsePrivateKey(hostKey(dir, log))
		if err != nil {
			t.Fatal(err)
		}
		return ssh.FingerprintSHA256(key.PublicKey())
	}
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
	if nowhere := hostKey("/proc/no/such/directory", log); nowhere == nil {
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
	path, key := keyInForce(t)
	cfg := Config{HostKeyDir: t.TempDir(), Settings: path, Connection: connection, Root: root,
		Idle: 400 * time.Millisecond, Passed: dup(t, kept)}
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), cfg) }()
	client, err := dial(addr, key)
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
	within(t, "leaving", func() {
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	late := make(chan error, 1)
	go func() { // nobody serves now: the socket keeps it
		c, err := dial(addr, key)
		if err == nil {
			c.Close()
		}
		late <- err
	}()
	cfg.Passed = dup(t, kept)
	go func() { done <- Run(t.Context(), cfg) }()
	within(t, "the next server", func() {
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
	cfg := Config{HostKeyDir: t.TempDir(), Passed: dup(t, f)}
	if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "unix") {
		t.Errorf("Run = %v", err)
	}
}

// TestDevelopmentModeEnds: who has logged in without a key is hung up when the mode ends, though nothing else ends.
func TestDevelopmentModeEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	publish := func(open string) {
		t.Helper()
		_, err := settings.Publish(path, settings.Settings{Values: map[string]settings.Value{
			config.DevelopmentMode: {JSON: []byte(open)}, config.Hostname: {JSON: []byte(`"` + rand.Text() + `"`)}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	publish("true")
	if !open(path) || open(path+".none") {
		t.Fatal("the mode is not read from the settings")
	}
	signer, err := ssh.ParsePrivateKey(hostKey(t.TempDir(), slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	began := func(ctx context.Context, settings string) (*sshmsg.Conn, <-chan struct{}) {
		main, theirs, err := sshmsg.Pair()
		if err != nil {
			t.Fatal(err)
		}
		served, err := sshmsg.Take(theirs)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		log := slog.New(slog.DiscardHandler)
		go func() {
			defer close(ended)
			serveRoot(ctx, rootOrders{Settings: settings}, sshroot.Config{HostKey: signer, Log: log}, served)
		}()
		return main, ended
	}
	_, keyless := began(t.Context(), path)
	withKey, keyed := began(t.Context(), "")
	publish("true") // something else has changed
	testenv.NeverReceive(t, 50*time.Millisecond, "the end while the mode is on", keyless)
	publish("false")
	testenv.Receive(t, "the end of the connection without a key", keyless)
	_, late := began(t.Context(), path) // it was let in just before
	testenv.Receive(t, "the end of a late connection", late)
	testenv.NeverReceive(t, 50*time.Millisecond, "the end of the connection with a key", keyed)
	withKey.Close()
	testenv.Receive(t, "the end of the connection with a key", keyed)
}
