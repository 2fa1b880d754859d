package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const idle = 10 * time.Minute

// hall is a listener to which a test connects by pipes.
type hall struct {
	come chan net.Conn
	gone chan struct{}
}

func newHall() *hall { return &hall{come: make(chan net.Conn), gone: make(chan struct{})} }

func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.come:
		return c, nil
	case <-h.gone:
		return nil, net.ErrClosed
	}
}

func (h *hall) Close() error   { close(h.gone); return nil }
func (h *hall) Addr() net.Addr { return &net.UnixAddr{Name: "hall", Net: "unix"} }

// visit connects to the hall.
func (h *hall) visit() net.Conn {
	ours, theirs := net.Pipe()
	h.come <- theirs
	return ours
}

// echo is a daemon that sends back what it gets.
func echo(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = io.Copy(theirs, theirs)
		_ = theirs.Close()
	}()
	return ours, nil
}

func quiet(context.Context) (bool, error) { return false, nil }

// begin starts a gate; ended gets what Run returns.
func begin(ctx context.Context, g Gate) (h *hall, ended chan error) {
	h, ended = newHall(), make(chan error, 1)
	g.Idle, g.Log = idle, slog.New(slog.DiscardHandler)
	go func() { ended <- g.Run(ctx, []net.Listener{h}) }()
	return h, ended
}

// still fails if the gate has ended d from now.
func still(t *testing.T, ended <-chan error, d time.Duration) {
	t.Helper()
	time.Sleep(d) // sleep: the clock of a synctest bubble
	synctest.Wait()
	select {
	case err := <-ended:
		t.Fatalf("ended within %v: %v", d, err)
	default:
	}
}

// ends fails if the gate does not end well at exactly d from now.
func ends(t *testing.T, ended <-chan error, d time.Duration) {
	t.Helper()
	from := time.Now()
	if err := <-ended; err != nil || time.Since(from) != d {
		t.Errorf("ended after %v with %v, want %v", time.Since(from), err, d)
	}
}

func TestEndsWhenNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ended := begin(t.Context(), Gate{Dial: echo, Busy: quiet})
		ends(t, ended, idle)
	})
}

func TestConnectionKeepsItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ended := begin(t.Context(), Gate{Dial: echo, Busy: quiet})
		still(t, ended, idle-time.Second)
		c := h.visit()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Fatalf("daemon answered %q, %v", got, err)
		}
		still(t, ended, 3*idle)
		_ = c.Close()
		ends(t, ended, idle)
	})
}

func TestContainerKeepsItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, fails atomic.Bool
		running.Store(true)
		_, ended := begin(t.Context(), Gate{Dial: echo, Busy: func(context.Context) (bool, error) {
			if fails.Load() {
				return false, errors.New("no answer")
			}
			return running.Load(), nil
		}})
		still(t, ended, 3*idle+time.Second)
		fails.Store(true) // nobody knows whether one runs
		still(t, ended, idle)
		fails.Store(false)
		running.Store(false)
		ends(t, ended, idle-time.Second)
	})
}

func TestWaitsForTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		h, ended := begin(t.Context(), Gate{Busy: quiet, Dial: func(ctx context.Context) (net.Conn, error) {
			if !up.Load() {
				return nil, errors.New("not up")
			}
			return echo(ctx)
		}})
		c := h.visit()
		still(t, ended, time.Minute)
		up.Store(true)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = c.Close()
		<-ended
	})
}

// late is a listener to which somebody connects at the moment at which it is closed.
type late struct {
	*hall
	conn net.Conn
}

func (l *late) Accept() (net.Conn, error) {
	<-l.gone
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, net.ErrClosed
}

func TestConnectionAtTheEndIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		g := Gate{Dial: echo, Busy: quiet, Idle: idle, Log: slog.New(slog.DiscardHandler)}
		ended := make(chan error, 1)
		go func() { ended <- g.Run(t.Context(), []net.Listener{&late{newHall(), theirs}}) }()
		still(t, ended, 2*idle)
		if _, err := ours.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = ours.Close()
		ends(t, ended, 0)
	})
}

func TestEndClosesConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, ended := begin(ctx, Gate{Dial: echo, Busy: quiet})
		c := h.visit()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still open")
		}
	})
}

// TestHalfClosed: docker ends its input and still reads the output, over the sockets that a device has.
func TestHalfClosed(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) (*net.UnixListener, string) {
		path := filepath.Join(dir, name)
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		return l, path
	}
	daemon, inner := listen("inner")
	defer daemon.Close()
	go func() { // ends with the one connection
		c, err := daemon.Accept()
		if err != nil {
			return
		}
		input, _ := io.ReadAll(c) // ends when the client has closed its half
		_, _ = c.Write(append([]byte("got "), input...))
		_ = c.Close()
	}()
	outer, socket := listen("outer")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	g := Gate{Idle: time.Hour, Busy: quiet, Log: slog.New(slog.DiscardHandler)}
	g.Dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", inner) }
	go func() { ended <- g.Run(ctx, []net.Listener{outer}) }()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("input")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || string(answer) != "got input" {
		t.Errorf("daemon answered %q, %v", answer, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
