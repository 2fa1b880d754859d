// Package sshd owns the port on which a device accepts ssh connections, and the two processes of each connection.
//
// It reads nothing of a client beyond the first line. Then it passes the connection to a process without rights, which
// runs sshconn and asks this one who may log in (sshaccess). After the login it starts a second process, which acts for
// the client as root (sshroot). The end of this server therefore ends no connection, and a client that sends nothing
// costs a few kilobytes.
//
// Read first: Config, then Run, then clients.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/net/sshaccess"
	"resinos/net/sshconn"
	"resinos/services/config"
	"resinos/services/notify"
	"resinos/services/settings"
)

// Config is how the server is reached and what serves a connection.
type Config struct {
	Addr       string           // empty: ":22222"; where Passed is 0
	Passed     int              // descriptor of a listening socket that somebody else keeps open; 0: none
	HostKeyDir string           // directory of the host key, which is created there once
	Connection func() *exec.Cmd // returns the program that serves one connection; it calls Serve and needs no rights
	Root       func() *exec.Cmd // returns the program that acts for a client that has logged in; it calls ServeRoot
	// Settings is the file with the owner's settings; empty: nobody can log in. They list keys; if there are none and
	// the development mode is on, root needs neither password nor key, unless the client is this device itself.
	Settings string
	Log      *slog.Logger

	Timeout time.Duration // time for a client to send its first line; 0: sshconn.DefaultTimeout
	// Idle is the time without a connection after which Run returns, so that a device that nobody visits spends no
	// memory on the server. It counts only for a Passed socket, where the next client waits until there is a server
	// again. 0: no limit.
	Idle time.Duration
}

// The limits of the server.
const (
	maxPending     = 96 // connections that have not logged in: some kilobytes each
	maxUnknown     = 12 // those of them that have a process: some megabytes each
	maxConnections = 64 // connections that have logged in
	acceptPause    = 100 * time.Millisecond
)

// keepAlive detects within two minutes that a client has disappeared. The kernel does the work: an idle server does not
// wake up.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// giveUp does the same for a client that disappears while data is on the way to it. Accepted connections inherit the
// option.
func giveUp(c syscall.RawConn) error {
	const milliseconds = 120_000
	var fault error
	err := c.Control(func(fd uintptr) {
		fault = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds)
	})
	return errors.Join(err, fault)
}

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = ":22222"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = sshconn.DefaultTimeout
	}
	return c
}

// Run accepts connections until ctx is cancelled or Idle is over, and returns nil. Connections that have a process
// continue. Run fails if it cannot begin.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	l, err := cfg.listen()
	if err != nil {
		return err
	}
	return serve(ctx, cfg, l)
}

// listen opens the socket, or uses the one that was passed.
func (c *Config) listen() (*net.TCPListener, error) {
	where := "on " + c.Addr
	var l net.Listener
	var err error
	if c.Passed != 0 {
		where = "on a passed socket"
		f := os.NewFile(uintptr(c.Passed), "ssh")
		l, err = net.FileListener(f)
		f.Close() // the listener has its own
	} else {
		c.Idle = 0 // without us nobody would listen
		l, err = net.Listen("tcp", c.Addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", where, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		l.Close() // nobody was served
		return nil, fmt.Errorf("listen %s: it is a %s socket: pass a tcp one", where, l.Addr().Network())
	}
	return tcp, nil
}

// serve is Run on an open listener.
func serve(ctx context.Context, cfg Config, l *net.TCPListener) error {
	if raw, err := l.SyscallConn(); err != nil {
		return fmt.Errorf("serve ssh: %w", err)
	} else if err := giveUp(raw); err != nil {
		cfg.Log.Warn("vanished clients are noticed late", "error", err)
	}
	s := &server{cfg: cfg, clients: newClients(maxPending, maxUnknown, maxConnections), hostKey: hostKey(cfg.HostKeyDir,
		cfg.Log)}
	stop := context.AfterFunc(ctx, func() {
		l.Close() // ends accept
		s.clients.close()
	})
	defer stop()
	if cfg.Settings != "" {
		following, stop := context.WithCancel(ctx)
		var beside sync.WaitGroup
		beside.Go(func() { follow(following, cfg) })
		defer beside.Wait()
		defer stop()
	}
	if err := notify.Ready(); err != nil {
		cfg.Log.Warn("readiness not reported", "error", err)
	}
	cfg.Log.Info("ssh served", "address", l.Addr().String())
	s.accept(ctx, l)
	s.running.Wait()
	return nil
}

// follow reports the state of the owner's keys. Each connection reads the keys itself when somebody logs in.
func follow(ctx context.Context, cfg Config) {
	err := settings.Follow(ctx, settings.Follower{Path: cfg.Settings, Daemon: "sshd", Keys: []string{config.SSHKeys},
		Log: cfg.Log,
		Apply: func(s settings.Settings) error {
			_, err := sshaccess.ParseKeys(s.List(config.SSHKeys))
			return err
		}})
	if ctx.Err() == nil {
		cfg.Log.Warn("settings not followed", "error", err)
	}
}

// server is what all connections share.
type server struct {
	cfg     Config
	hostKey []byte // in PEM
	clients *clients
	running sync.WaitGroup // the goroutines of the clients
}

// accept accepts connections until the listener is closed or nobody was connected for long enough. If it runs out of
// descriptors it waits. A client that connects while accept ends stays in the socket for the next server.
func (s *server) accept(ctx context.Context, l *net.TCPListener) {
	for alive := notify.Watched(); ; {
		alive.Beat()
		l.SetDeadline(s.until(alive)) // fails only on a closed one, as Accept then does
		conn, err := l.AcceptTCP()
		if err == nil {
			conn.SetKeepAliveConfig(keepAlive) // fails only on a connection that is gone
			s.enter(ctx, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if now := time.Now(); s.cfg.Idle > 0 && now.Sub(s.clients.emptySince(now)) >= s.cfg.Idle {
				s.cfg.Log.Info("no connections, exiting", "after", s.cfg.Idle)
				return
			}
			continue
		}
		s.cfg.Log.Warn("connection not accepted", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(acceptPause):
		}
	}
}

// enter serves a connection.
func (s *server) enter(ctx context.Context, conn *net.TCPConn) {
	c, ok := s.clients.add(conn)
	if !ok {
		conn.Close() // nothing has been said on it
		return
	}
	s.running.Go(func() {
		defer s.clients.remove(c)
		defer conn.Close() // its process has its own; it may be closed already
		log := s.cfg.Log.With("remote", conn.RemoteAddr().String())
		if err := greet(conn, s.cfg.Timeout); err != nil {
			log.Debug("no ssh client", "error", err)
			return
		}
		if err := s.handOver(ctx, c, conn); err != nil {
			log.Error("connection not served", "error", err)
		}
	})
}
