package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/redsocks"
	"resinos/net/upstream"
)

func TestLimits(t *testing.T) {
	p := &passages{}
	count := func(foreign bool) (n int) {
		for p.enter(foreign) {
			n++
		}
		return n
	}
	if got := count(true); got != mostForeign {
		t.Errorf("%d connections of containers", got)
	}
	if got := count(false); got != most-mostForeign {
		t.Errorf("%d connections of the device beside them", got)
	}
	p.leave(true)
	if !p.enter(false) || p.enter(false) {
		t.Error("a place that is free again is not exactly one")
	}
}

// pair returns the two ends of a connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	a.SetDeadline(time.Now().Add(testenv.Patience()))
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// TestPump: one direction ends and the other goes on; a side that breaks breaks the other; much data arrives whole.
func TestPump(t *testing.T) {
	p := &passages{}
	program, in := pair(t)
	server, out := pair(t)
	done := make(chan struct{}, 2)
	go func() { p.pump(out, in); done <- struct{}{} }()
	go func() { p.pump(in, out); done <- struct{}{} }()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		program.Write(sent)
		program.CloseWrite()
	}()
	if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
	}
	testenv.Receive(t, "the end of one direction", done)
	if _, err := server.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if _, err := io.ReadFull(program, buf); err != nil || string(buf) != "still here" {
		t.Fatalf("%q, %v", buf, err)
	}
	reset(server)
	testenv.Receive(t, "the end of the other", done)
	if _, err := program.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program sees %v", err)
	}
}

// TestVerdict: what is the server's fault is reported until it works; what is not leaves no trace.
func TestVerdict(t *testing.T) {
	v := verdict{dir: t.TempDir(), log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1)}
	about := redsocks.Server{Type: redsocks.SOCKS5, Host: "10.0.0.1", Port: 1080, Login: "ada", Password: "hidden"}
	v.server(upstream.Dialer{Server: about})
	v.file("", true)
	for _, c := range []struct {
		err       error
		want      string
		unreached bool
	}{
		{errors.New("it refuses the login"), "it refuses the login", false},
		{&net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, "it refuses the login", false},
		{nil, "", false},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "dial: connection refused", true},
		{context.DeadlineExceeded, "it does not answer", false},
	} {
		v.judge(about, c.err)
		s, ok := Read(v.dir)
		want := Status{Server: "socks5 10.0.0.1:1080", Fault: c.want}
		if !ok || s != want || v.unreached != c.unreached {
			t.Errorf("after %v: %+v, %v", c.err, s, v.unreached)
		}
	}
	other := about
	other.Port = 1
	if v.judge(other, nil); v.status.Fault == "" {
		t.Error("what became of a server that is not in force any more counts")
	}
}

// TestAsker: questions of several clients share a connection; one that has ended is replaced; silence ends.
func TestAsker(t *testing.T) {
	made := make(chan *net.TCPConn, 10)
	a := &asker{dial: func(context.Context) (net.Conn, error) {
		near, far := pair(t)
		near.SetDeadline(time.Time{})
		made <- far
		return near, nil
	}}
	defer a.close()
	question := append([]byte{0, 9}, make([]byte, 20)...)
	answered := make(chan error, 10)
	ask := func() {
		answer, err := a.ask(t.Context(), question)
		if err == nil && !bytes.Equal(answer[:2], question[:2]) {
			err = errors.New("the answer has another number")
		}
		answered <- err
	}
	read := func(c *net.TCPConn) []byte {
		message := make([]byte, 2+len(question))
		if _, err := io.ReadFull(c, message); err != nil {
			t.Error(err)
		}
		return message
	}
	go ask()
	go ask()
	server := testenv.Receive(t, "a connection", made)
	first, second := read(server), read(server)
	server.Write(append(second, first...)) // in another order
	for range 2 {
		if err := testenv.Receive(t, "an answer", answered); err != nil {
			t.Error(err)
		}
	}
	go ask()
	read(server)
	server.Close() // the question is asked again
	server = testenv.Receive(t, "another connection", made)
	server.Write(read(server))
	if err := testenv.Receive(t, "an answer", answered); err != nil {
		t.Error(err)
	}
	go ask()
	read(server)
	server.Write([]byte{0, 3, 1, 2, 3}) // no message of DNS
	server = testenv.Receive(t, "another connection", made)
	read(server)
	server.Close() // twice is enough
	if err := testenv.Receive(t, "the end", answered); err == nil {
		t.Error("an answer that nobody sent")
	}
	if len(made) > 0 {
		t.Error("it goes on asking")
	}
}
