package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"resinos/net/sshaccess"
	"resinos/net/sshconn"
	"resinos/net/sshmsg"
	"resinos/net/sshroot"
	"resinos/services/config"
	"resinos/services/settings"
)

// The descriptors of the processes that are started here. Root's process reads the host key from its standard input,
// because a key that could not be stored on disk must be the same for all.
const (
	connectionFD = 3 // of the process of a connection: the connection
	gateFD       = 4 // the same: the socket to the gate
	mainFD       = 3 // of root's process: the socket for requests
)

// greet sends the server's first line and waits for the beginning of the client's, which stays in the socket. A client
// that only opens connections, such as a scanner, costs no process.
func greet(conn *net.TCPConn, patience time.Duration) error {
	conn.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection, as what follows does
	if _, err := conn.Write([]byte(sshconn.Version + "\r\n")); err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = raw.Read(func(fd uintptr) bool {
		var begin [4]byte
		n, _, err := unix.Recvfrom(int(fd), begin[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return false
		case err != nil:
			fault = err
		case n == 0:
			fault = io.EOF
		case !bytes.HasPrefix([]byte("SSH-"), begin[:n]):
			fault = fmt.Errorf("it begins with %q", begin[:n])
		}
		return true
	})
	return errors.Join(err, fault)
}

// handOver starts the process that serves a client, and returns when it has ended, or when ctx is cancelled: the
// process then continues if its client has logged in.
func (s *server) handOver(ctx context.Context, c *client, conn *net.TCPConn) error {
	file, err := conn.File()
	if err != nil {
		return nil // it was closed meanwhile
	}
	defer file.Close() // the process has its own
	gate, theirs, err := sshmsg.Pair()
	if err != nil {
		return err
	}
	defer theirs.Close() // as above
	cmd := s.cfg.Connection()
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{file, theirs}
	if err := cmd.Start(); err != nil {
		gate.Close() // nobody has the other end
		return fmt.Errorf("start process of connection: %w", err)
	}
	theirs.Close() // as above: with the process, the only user of the gate ends
	if !s.clients.setProcess(c, cmd.Process) {
		cmd.Process.Kill() // fails if the process has ended
	}
	ended := make(chan struct{})
	go func() { // outlives this server if the process does
		defer close(ended)
		s.guard(c, conn, gate)
		cmd.Wait() // the process itself has logged how it ended
	}()
	conn.Close() // it is the process's
	file.Close() // as above
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// guard answers the process of a client until its client has logged in. It kills the process of a client that has not
// done so in time: a stranger may have taken the process over.
func (s *server) guard(c *client, conn *net.TCPConn, asked *sshmsg.Conn) {
	log := s.cfg.Log.With("remote", conn.RemoteAddr().String())
	key, err := ssh.ParsePrivateKey(s.hostKey)
	if err != nil {
		panic(err) // hostKey has parsed it
	}
	gate := sshaccess.Gate{HostKey: key, NoAuth: open(s.cfg.Settings), Settings: s.cfg.Settings,
		Remote: conn.RemoteAddr(), Local: conn.LocalAddr(), Log: s.cfg.Log}
	gate.Enter = func(keyless bool) (*os.File, error) {
		switch s.clients.admit(c) {
		case late:
			return nil, errors.New("log in: too late")
		case full:
			log.Warn("connection refused, too many are open", "limit", maxConnections)
			return nil, errors.New("log in: too many connections are open")
		}
		return s.startRoot(conn, keyless)
	}
	if err := gate.Serve(asked, s.cfg.Timeout+guardMargin); err != nil {
		if !sshaccess.Ended(err) {
			log.Warn("process of connection ended", "error", err)
		}
		s.clients.closePending(c)
	}
}

// open reports whether logging in without a key may be allowed. Settings that cannot be read allow it to nobody.
func open(path string) bool {
	s, err := settings.Read(path) // the gate reads them too, and reports it
	return err == nil && s.Flag(config.DevelopmentMode)
}

// guardMargin is the time for the process to end by itself after its client's time is over.
const guardMargin = 10 * time.Second

// rootOrders is the first thing that root's process reads.
type rootOrders struct {
	HostKey       []byte // in PEM
	Remote, Local string
	Settings      string // the file with them; empty if the client has logged in with a key
}

// startRoot starts the process that acts for a client that has logged in, and returns the socket for requests to it.
// The process ends when the last holder closes the socket.
func (s *server) startRoot(conn *net.TCPConn, keyless bool) (*os.File, error) {
	main, theirs, err := sshmsg.Pair()
	if err != nil {
		return nil, err
	}
	defer main.Close() // the process has its own
	asked, err := main.Unix().File()
	if err != nil {
		theirs.Close() // nobody has it
		return nil, err
	}
	cmd := s.cfg.Root()
	orders := rootOrders{HostKey: s.hostKey, Remote: conn.RemoteAddr().String(), Local: conn.LocalAddr().String()}
	if keyless {
		orders.Settings = s.cfg.Settings
	}
	cmd.Stdin = bytes.NewReader(ssh.Marshal(orders))
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{theirs}
	err = cmd.Start()
	theirs.Close() // as above
	if err != nil {
		asked.Close() // nobody has it
		return nil, fmt.Errorf("start root's process: %w", err)
	}
	go func() { // ends when the connection does
		cmd.Wait() // the process itself has logged how
		sshroot.Clean(cmd.Process.Pid)
	}()
	return asked, nil
}

// Serve is the main function of the process of one connection: it serves the client that handOver passed. It fails if
// there is no connection.
func Serve(ctx context.Context, cfg sshconn.Config) error {
	file := os.NewFile(connectionFD, "connection")
	conn, err := net.FileConn(file)
	file.Close() // the connection has its own
	if err != nil {
		return fmt.Errorf("serve ssh connection: %w: only sshd starts this program so", err)
	}
	gate, err := sshmsg.Take(os.NewFile(gateFD, "gate"))
	if err != nil {
		return fmt.Errorf("serve ssh connection: %w: only sshd starts this program so", err)
	}
	cfg.Greeted = true
	sshconn.Serve(ctx, cfg, conn, gate)
	return nil
}

// ServeRoot is the main function of root's process for one connection. It fails without orders. If its client has
// logged in without a key, it hangs up as soon as the development mode ends.
func ServeRoot(ctx context.Context, cfg sshroot.Config) error {
	text, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	var orders rootOrders
	if err == nil {
		err = ssh.Unmarshal(text, &orders)
	}
	if err == nil {
		cfg.HostKey, err = ssh.ParsePrivateKey(orders.HostKey)
	}
	if err != nil {
		return fmt.Errorf("serve root: read orders: %w: only sshd starts this program so", err)
	}
	main, err := sshmsg.Take(os.NewFile(mainFD, "main"))
	if err != nil {
		return fmt.Errorf("serve root: %w", err)
	}
	cfg.Remote, cfg.Local = orders.Remote, orders.Local
	serveRoot(ctx, orders, cfg, main)
	return nil
}

func serveRoot(ctx context.Context, orders rootOrders, cfg sshroot.Config, main *sshmsg.Conn) {
	if orders.Settings != "" {
		var beside sync.WaitGroup
		defer beside.Wait()
		following, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		ctx = following
		beside.Go(func() { whileOpen(following, func() { cancel(sshroot.ErrRevoked) }, orders, cfg.Log) })
	}
	sshroot.Serve(ctx, cfg, main)
}

// whileOpen calls closed when the development mode ends, or if that cannot be followed.
func whileOpen(ctx context.Context, closed func(), orders rootOrders, log *slog.Logger) {
	err := settings.Follow(ctx, settings.Follower{Path: orders.Settings, Keys: []string{config.DevelopmentMode},
		Log: log,
		Apply: func(s settings.Settings) error {
			if !s.Flag(config.DevelopmentMode) {
				log.Info("development mode ends, connection without a key closed", "remote", orders.Remote)
				closed()
			}
			return nil
		}})
	if ctx.Err() == nil {
		log.Error("settings not followed, connection without a key closed", "error", err)
		closed()
	}
}
