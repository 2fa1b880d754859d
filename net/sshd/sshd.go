// Package sshd owns the ssh server of development images: root logs in without a password, gets a shell, commands,
// sftp and forwarded ports.
//
// It lets nobody in unless told so: either NoAuth says that everyone may enter, or the owner's settings name keys. It uses
// golang.org/x/crypto/ssh directly; gliderlabs/ssh blocks its request loop on a window change that nobody takes,
// rewrites line ends of a raw terminal, and cuts a forwarded connection when one side has finished sending.
//
// Read first: Config, then session.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"resinos/services/notify"
)

// Config says how the server is reached and what it starts.
type Config struct {
	Addr       string // empty: ":22222"; where Passed is 0
	Passed     int    // descriptor of a listening socket that somebody else keeps open; 0: there is none
	HostKeyDir string // where the host key is kept; it is made there once
	Shell      string // empty: "/bin/sh"
	NoAuth     bool   // root needs neither password nor key
	Settings   string // where the owner's settings are published, which name keys; empty: nobody has any
	Log        *slog.Logger

	HandshakeTimeout time.Duration // 0: defaultHandshake
	// Idle is how long nobody may be connected before Run returns, so that a device that nobody visits pays no memory for it.
	// It counts only for a Passed socket, where the next visitor waits until there is a server again. 0: for ever.
	Idle time.Duration
}

// The limits of the server.
const (
	defaultHandshake = 30 * time.Second // emulated and very small devices need seconds for the key exchange
	maxPending       = 96               // connections that have not logged in: some 50 kB each
	maxConnections   = 128              // connections that have
	maxChannels      = 64               // sessions and forwarded ports of one connection
	acceptPause      = 100 * time.Millisecond
)

// keepAlive notices within two minutes that a client is gone without a word. The kernel does it: an idle server
// wakes for nothing.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// giveUp does the same for a client that vanishes with data on the way to it. Accepted connections inherit it.
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
	if c.Shell == "" {
		c.Shell = "/bin/sh"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshake
	}
	return c
}

// Run serves until ctx is cancelled, then closes every connection, which hangs up its sessions, and returns nil, as it does
// when it was idle for too long. It fails if it cannot begin.
func Run(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	if !cfg.NoAuth && cfg.Settings == "" {
		return errors.New("serve ssh: nobody could log in: NoAuth is not set and nobody names keys")
	}
	l, err := cfg.listen()
	if err != nil {
		return err
	}
	return serve(ctx, cfg, l)
}

// listen opens the socket or takes up the one that was passed.
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

// serve is Run on a listener that is open already.
func serve(ctx context.Context, cfg Config, l *net.TCPListener) error {
	if raw, err := l.SyscallConn(); err != nil {
		return fmt.Errorf("serve ssh: %w", err)
	} else if err := giveUp(raw); err != nil {
		cfg.Log.Warn("vanished clients are noticed late", "error", err)
	}
	s := &server{cfg: cfg, door: newDoor(maxPending, maxConnections), home: home()}
	s.ssh = s.protocol(hostKey(cfg.HostKeyDir, cfg.Log))
	stop := context.AfterFunc(ctx, func() {
		l.Close() // ends accept
		s.door.close()
	})
	defer stop()
	if cfg.Settings != "" {
		following, stop := context.WithCancel(ctx)
		var beside sync.WaitGroup
		beside.Go(func() { s.keys.follow(following, cfg) })
		defer beside.Wait()
		defer stop()
	}
	if err := notify.Ready(); err != nil {
		cfg.Log.Warn("readiness not told", "error", err)
	}
	cfg.Log.Info("ssh served", "address", l.Addr().String())
	s.accept(ctx, l)
	s.running.Wait()
	return nil
}

// server is what all connections share.
type server struct {
	cfg     Config
	ssh     *ssh.ServerConfig
	home    string
	door    *door
	keys    keyring        // of the owner
	running sync.WaitGroup // the connections
}

// protocol sets up the ssh side. Only the fast algorithms are offered: the client's order decides among them, and a
// hybrid key exchange costs an emulated device a noticeable part of a second.
func (s *server) protocol(key ssh.Signer) *ssh.ServerConfig {
	onlyRoot := func(c ssh.ConnMetadata) (*ssh.Permissions, error) {
		if c.User() != "root" {
			return nil, fmt.Errorf("log in as %q: only root has an account", c.User())
		}
		return nil, nil
	}
	config := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"},
			Ciphers: []string{"chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
				"aes128-ctr", "aes256-ctr"},
			MACs: []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"},
		},
		ServerVersion: "SSH-2.0-resinOS",
		MaxAuthTries:  6,
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !s.keys.has(key) {
				return nil, errors.New("log in: the key is not one of os.sshKeys")
			}
			return onlyRoot(c)
		},
	}
	if s.cfg.NoAuth {
		config.NoClientAuth, config.NoClientAuthCallback = true, onlyRoot
		// Some libraries do not try "none" and send an empty password straight away.
		config.PasswordCallback = func(c ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) { return onlyRoot(c) }
	}
	config.AddHostKey(key)
	return config
}

// accept takes connections until the listener is closed or nobody was there for long enough. Running out of descriptors is
// waited out. Whoever comes in the moment of leaving is left in the socket, for the next server.
func (s *server) accept(ctx context.Context, l *net.TCPListener) {
	for {
		if s.cfg.Idle > 0 {
			l.SetDeadline(s.door.emptySince(time.Now()).Add(s.cfg.Idle)) // fails only on a closed one, as Accept then does
		}
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
			if now := time.Now(); now.Sub(s.door.emptySince(now)) >= s.cfg.Idle {
				s.cfg.Log.Info("nobody is connected, leaving", "after", s.cfg.Idle)
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

// enter starts a connection if the door lets it in.
func (s *server) enter(ctx context.Context, conn net.Conn) {
	g, ok := s.door.knock(conn)
	if !ok {
		conn.Close() // nothing has been said on it
		return
	}
	s.running.Go(func() {
		defer s.door.leave(g)
		defer conn.Close() // ends what still reads from it; it may be closed already
		s.connection(ctx, conn, g)
	})
}

// connection shakes hands and serves the channels of one client until it goes.
func (s *server) connection(ctx context.Context, conn net.Conn, g *guest) {
	log := s.cfg.Log.With("remote", conn.RemoteAddr().String())
	conn.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout)) // fails only on a closed connection
	client, channels, requests, err := ssh.NewServerConn(conn, s.ssh)
	if err != nil {
		log.Debug("handshake not finished", "error", err)
		return
	}
	if !s.door.admit(g) {
		log.Warn("connection refused, too many are open", "limit", maxConnections)
		return
	}
	conn.SetDeadline(time.Time{}) // as above
	log.Info("logged in", "client", string(client.ClientVersion()))
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	open.Go(func() { ssh.DiscardRequests(requests) }) // it answers keepalives
	s.channels(ctx, client, channels, log)
	cancel() // the client is gone: hang up its sessions
	open.Wait()
	log.Info("logged out")
}

// channels starts what the client asks for, and returns when all of it has ended.
func (s *server) channels(ctx context.Context, client *ssh.ServerConn, channels <-chan ssh.NewChannel, log *slog.Logger) {
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	slots := make(chan struct{}, maxChannels)
	for ch := range channels {
		serve := s.kind(ch.ChannelType())
		if serve == nil {
			ch.Reject(ssh.UnknownChannelType, "no such channel type") // an error means that the client is gone
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			ch.Reject(ssh.ResourceShortage, "too many channels") // as above
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			serve(ctx, client, ch, log)
		})
	}
	cancel()
	open.Wait()
}

type channelFunc func(ctx context.Context, client *ssh.ServerConn, ch ssh.NewChannel, log *slog.Logger)

func (s *server) kind(name string) channelFunc {
	switch name {
	case "session":
		return s.session
	case "direct-tcpip":
		return s.forward
	}
	return nil
}

// home returns root's home: images that follow resinOS have /home/root.
func home() string {
	for _, dir := range []string{"/home/root", "/root"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "/"
}
