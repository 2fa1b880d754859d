// Package sshconn owns one ssh connection: it speaks the protocol with the client, and copies bytes between the client
// and what root's process has started.
//
// It runs in a process without rights: it opens no file and no connection, starts no process and has no host key. It
// asks the gate (package sshaccess) who may log in, and afterwards root's process (package sshroot) for what the client
// wants; it gets root's socket with the login. It never listens for connections (sshd does), and it uses
// golang.org/x/crypto/ssh directly (docs/decisions/0002-ssh-without-a-session-library.md).
//
// Read first: Config, then Serve, then session.
package sshconn

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// Version is the first line that the server sends.
const Version = "SSH-2.0-resinOS"

// Config is how to serve a connection.
type Config struct {
	Log     *slog.Logger
	Greeted bool          // Version has been sent to the client already
	Timeout time.Duration // for the handshake and the login; 0: DefaultTimeout
}

// DefaultTimeout is enough for emulated and very small devices, which need seconds for the key exchange.
const DefaultTimeout = 30 * time.Second

// maxChannels limits the sessions and forwarded connections of a client.
const maxChannels = 64

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	return c
}

// remoteOf returns the address of the other end of a connection that was passed as a descriptor. The kernel no longer
// knows the address if the other end closed before the descriptor was used.
func remoteOf(conn net.Conn) string {
	if address := conn.RemoteAddr(); address != nil {
		return address.String()
	}
	return "gone"
}

// Serve does the handshake with one client and serves what it asks for until it goes or ctx is cancelled, which hangs
// up its sessions. gate decides who may log in. Serve closes conn and gate.
func Serve(ctx context.Context, cfg Config, conn net.Conn, gate *sshmsg.Conn) {
	cfg = cfg.withDefaults()
	defer conn.Close() // ends what still reads from it; it may be closed already
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if cfg.Greeted {
		conn = &greeted{Conn: conn}
	}
	c := &connection{gate: &privileged{gate: gate}, log: cfg.Log.With("remote", remoteOf(conn))}
	defer c.gate.close()
	conn.SetDeadline(time.Now().Add(cfg.Timeout)) // fails only on a closed connection
	config, err := c.protocol()
	if err != nil {
		c.log.Warn("connection not begun", "error", err)
		return
	}
	client, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		c.log.Debug("handshake not finished", "error", err)
		return
	}
	conn.SetDeadline(time.Time{}) // as above
	c.client, c.slots = client, make(chan struct{}, maxChannels)
	go func() { // ends with root's process, or when the sockets are closed
		c.gate.wait()
		conn.Close()
	}()
	c.serve(ctx, channels, requests)
	c.log.Info("logged out")
}

// greeted leaves out the server's first line, which the listener has sent to the client.
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
	client *ssh.ServerConn
	gate   *privileged
	log    *slog.Logger
	slots  chan struct{} // one for each open channel
}

// protocol returns the configuration of the ssh library. Only fast algorithms are offered: the client's order decides
// among them, and a hybrid key exchange takes a noticeable part of a second on an emulated device.
func (c *connection) protocol() (*ssh.ServerConfig, error) {
	begun, err := c.gate.begin()
	if err != nil {
		return nil, err
	}
	hostKey, err := ssh.ParsePublicKey(begun.HostKey)
	if err != nil {
		return nil, err
	}
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
			return nil, c.gate.offer(m.User(), key)
		},
		VerifiedPublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions,
			_ string) (*ssh.Permissions, error) {
			return nil, c.gate.enter(m, key)
		},
	}
	if begun.NoKey {
		config.NoClientAuth = true
		config.NoClientAuthCallback = func(m ssh.ConnMetadata) (*ssh.Permissions, error) {
			return nil,
				c.gate.enter(m, nil)
		}
		// Some libraries do not try "none" and send an empty password at once.
		config.PasswordCallback = func(m ssh.ConnMetadata, _ []byte) (*ssh.Permissions, error) {
			return nil,
				c.gate.enter(m, nil)
		}
	} else if begun.Banner != "" {
		config.BannerCallback = func(ssh.ConnMetadata) string { return begun.Banner }
	}
	config.AddHostKey(&signer{key: hostKey, gate: c.gate})
	return config, nil
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

// take reserves a slot for a channel.
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

// requests answers the requests for the whole connection: ports to listen on, keepalives.
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
