// Package sshconn owns one ssh connection: who may log in over it, and what root can do then: a shell, commands, sftp, scp,
// forwarded ports in both directions, and the client's agent.
//
// It lets nobody in unless told so: either the owner's settings name keys, or NoAuth says that root needs none. It never listens for
// connections (sshd does), and it uses golang.org/x/crypto/ssh directly (docs/decisions/0002-ssh-without-a-session-library.md).
//
// Read first: Config, then Serve, then session.
package sshconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Version is how the server names itself in its first line.
const Version = "SSH-2.0-resinOS"

// Config says who may log in and what is started then.
type Config struct {
	HostKey  ssh.Signer
	Shell    string // empty: "/bin/sh"
	NoAuth   bool   // root needs neither password nor key, unless Settings name keys or the client is this device itself
	Settings string // where the owner's settings are published, which name keys; empty: nobody has any
	Log      *slog.Logger

	Greeted  bool          // the client has been sent Version already
	Timeout  time.Duration // for the handshake and the login; 0: DefaultTimeout
	LoggedIn func()        // called when the client has logged in; nil: nobody wants to know
}

// DefaultTimeout is enough for emulated and very small devices, which need seconds for the key exchange.
const DefaultTimeout = 30 * time.Second

// maxChannels bounds the sessions and forwarded connections of a client.
const maxChannels = 64

func (c Config) withDefaults() Config {
	if c.Shell == "" {
		c.Shell = "/bin/sh"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return c
}

// Serve shakes hands with one client and serves what it asks for until it goes or ctx is cancelled, which hangs up its sessions. It
// closes conn.
func Serve(ctx context.Context, cfg Config, conn net.Conn) {
	cfg = cfg.withDefaults()
	defer conn.Close() // ends what still reads from it; it may be closed already
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if cfg.Greeted {
		conn = &greeted{Conn: conn}
	}
	c := &connection{cfg: cfg, home: home(), log: cfg.Log.With("remote", conn.RemoteAddr().String())}
	conn.SetDeadline(time.Now().Add(cfg.Timeout)) // fails only on a closed connection
	client, channels, requests, err := ssh.NewServerConn(conn, c.protocol(conn))
	if err != nil {
		c.log.Debug("handshake not finished", "error", err)
		return
	}
	conn.SetDeadline(time.Time{}) // as above
	if cfg.LoggedIn != nil {
		cfg.LoggedIn()
	}
	c.client, c.slots = client, make(chan struct{}, maxChannels)
	c.log.Info("logged in", "client", string(client.ClientVersion()))
	c.serve(ctx, channels, requests)
	c.log.Info("logged out")
}

// greeted leaves out the server's first line, which the client has got from the listener.
type greeted struct {
	net.Conn
	once sync.Once
}

func (g *greeted) Write(p []byte) (int, error) {
	skipped := 0
	g.once.Do(func() {
		if line := []byte(Version + "\r\n"); bytes.HasPrefix(p, line) {
			skipped = len(line)
		}
	})
	if skipped == len(p) {
		return skipped, nil
	}
	n, err := g.Conn.Write(p[skipped:])
	return skipped + n, err
}

// connection is one client that has logged in.
type connection struct {
	cfg    Config
	client *ssh.ServerConn
	home   string
	log    *slog.Logger
	slots  chan struct{} // one for each channel that is open
}

// protocol sets up the ssh side. Only the fast algorithms are offered: the client's order decides among them, and a
// hybrid key exchange costs an emulated device a noticeable part of a second.
func (c *connection) protocol(conn net.Conn) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"},
			Ciphers: []string{"chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
				"aes128-ctr", "aes256-ctr"},
			MACs: []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"},
		},
		ServerVersion: Version,
		MaxAuthTries:  6,
		PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if keys, _ := c.keys(); !keys.Has(key) {
				return nil, errors.New("log in: the key is not one of os.sshKeys")
			}
			return onlyRoot(m)
		},
	}
	if err := c.closed(conn); err == nil {
		// Judged again when the client asks: a key that is set meanwhile closes the door to who waits in it.
		enter := func(m ssh.ConnMetadata) (*ssh.Permissions, error) {
			if err := c.closed(conn); err != nil {
				return nil, err
			}
			return onlyRoot(m)
		}
		config.NoClientAuth, config.NoClientAuthCallback = true, enter
		// Some libraries do not try "none" and send an empty password straight away.
		config.PasswordCallback = func(m ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) { return enter(m) }
	} else if c.cfg.NoAuth {
		config.BannerCallback = func(ssh.ConnMetadata) string { return err.Error() + "\r\n" }
	}
	config.AddHostKey(c.cfg.HostKey)
	return config
}

func onlyRoot(m ssh.ConnMetadata) (*ssh.Permissions, error) {
	if m.User() != "root" {
		return nil, fmt.Errorf("log in as %q: only root has an account", m.User())
	}
	return nil, nil
}

// serve starts what the client asks for, and returns when all of it has ended.
func (c *connection) serve(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	open.Go(func() { c.requests(ctx, requests) })
	for ch := range channels {
		serve := c.kind(ch.ChannelType())
		if serve == nil {
			ch.Reject(ssh.UnknownChannelType, "no such channel type") // an error means that the client is gone
			continue
		}
		if !c.take() {
			ch.Reject(ssh.ResourceShortage, "too many channels") // as above
			continue
		}
		open.Go(func() {
			defer c.giveBack()
			serve(ctx, ch)
		})
	}
	cancel() // the client is gone: hang up its sessions
	open.Wait()
}

// take reserves a place for a channel.
func (c *connection) take() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *connection) giveBack() { <-c.slots }

type channelFunc func(ctx context.Context, ch ssh.NewChannel)

func (c *connection) kind(name string) channelFunc {
	switch name {
	case "session":
		return c.session
	case "direct-tcpip":
		return c.forward
	}
	return nil
}

// requests answers what concerns the whole connection: ports to listen on, keepalives.
func (c *connection) requests(ctx context.Context, requests <-chan *ssh.Request) {
	r := remotes{connection: c, open: map[bind][]net.Listener{}}
	defer r.close()
	for request := range requests {
		var ok bool
		var answer []byte
		switch request.Type {
		case "tcpip-forward":
			answer, ok = r.listen(ctx, request.Payload)
		case "cancel-tcpip-forward":
			ok = r.cancel(request.Payload)
		}
		if request.WantReply {
			request.Reply(ok, answer) // an error means that the client is gone
		}
	}
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
