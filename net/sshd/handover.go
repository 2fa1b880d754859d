package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"resinos/net/sshconn"
)

// The descriptors of a connection's process. Standard input brings the host key: what could not be kept on disk is the same for all.
const (
	connectionFD = 3
	loggedInFD   = 4 // takes a byte when the client has logged in
)

// greet says the server's first line and waits for the beginning of the client's, which stays in the socket. Scanners, and who opens
// connections to have them, cost no process.
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

// handOver starts the process that serves a guest, and returns when it has ended, or when ctx is cancelled: then it lives on.
func (s *server) handOver(ctx context.Context, g *guest, conn *net.TCPConn) error {
	file, err := conn.File()
	if err != nil {
		return nil // it was put out meanwhile
	}
	defer file.Close() // the process has its own
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := s.cfg.Connection()
	cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(s.hostKey), os.Stderr, []*os.File{file, w}
	err = cmd.Start()
	w.Close() // as above
	if err != nil {
		r.Close() // nobody writes to it
		return fmt.Errorf("start process of connection: %w", err)
	}
	if !s.door.serves(g, cmd.Process) {
		cmd.Process.Kill() // it fails if the process has ended
	}
	ended := make(chan struct{})
	go func() { // it outlives us where the process does
		defer close(ended)
		defer r.Close() // nobody writes to it any more
		s.watch(g, r)
		cmd.Wait() // how it ended, it has told itself
	}()
	conn.Close() // it is the process's
	file.Close() // as above
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// watch lets a guest in when its process says that it has logged in.
func (s *server) watch(g *guest, told io.Reader) {
	if _, err := io.ReadFull(told, make([]byte, 1)); err != nil {
		return // it ended before
	}
	if s.door.admit(g) == full {
		s.cfg.Log.Warn("connection refused, too many are open", "remote", g.conn.RemoteAddr().String(), "limit", maxConnections)
	}
}

// Serve is what the process of one connection does: it serves the client that handOver gave it. Config is what sshconn is to do; the
// host key comes with the connection. It fails if there is no connection.
func Serve(ctx context.Context, cfg sshconn.Config) error {
	text, err := io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	if err == nil {
		cfg.HostKey, err = ssh.ParsePrivateKey(text)
	}
	if err != nil {
		return fmt.Errorf("serve ssh connection: read host key: %w", err)
	}
	file := os.NewFile(connectionFD, "connection")
	conn, err := net.FileConn(file)
	file.Close() // the connection has its own
	if err != nil {
		return fmt.Errorf("serve ssh connection: %w: only sshd starts this program so", err)
	}
	told := os.NewFile(loggedInFD, "logged in")
	unix.CloseOnExec(connectionFD)
	unix.CloseOnExec(loggedInFD)
	cfg.Greeted = true
	cfg.LoggedIn = func() {
		told.Write([]byte{1}) // an error means that the server is gone, which is no harm
		told.Close()
	}
	defer told.Close() // it may be closed already
	sshconn.Serve(ctx, cfg, conn)
	return nil
}
