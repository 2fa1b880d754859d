package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Shell runs commands on a development or standalone image over ssh, as root and without a password.
type Shell struct {
	client *ssh.Client
}

// dialTimeout limits one attempt to log in; dialPause is the time between two.
const (
	dialTimeout = 10 * time.Second
	dialPause   = 100 * time.Millisecond
)

// Dial tries to log in at address until it succeeds or ctx is done.
func Dial(ctx context.Context, address string) (*Shell, error) {
	for {
		shell, err := dial(ctx, address)
		if err == nil {
			return shell, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("log in at %s: %w: %w", address, context.Cause(ctx), err)
		case <-time.After(dialPause):
		}
	}
}

func dial(ctx context.Context, address string) (*Shell, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// QEMU's user network accepts a connection before the guest does, so the handshake needs the limit as well.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	client, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User:            "root",
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // a guest of ours with a new key
	})
	if err != nil {
		stop()
		return nil, errors.Join(err, conn.Close())
	}
	if !stop() {
		client.Close()
		return nil, context.Cause(ctx)
	}
	return &Shell{ssh.NewClient(client, channels, requests)}, nil
}

// Run runs a command line and returns its exit status. An error means that the status is not known: the connection
// broke, ctx is done, or a signal killed the command.
func (s *Shell) Run(ctx context.Context, command string, stdout, stderr io.Writer) (int, error) {
	session, err := s.client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("open session: %w", err)
	}
	defer session.Close() // ends with io.EOF after a normal end
	session.Stdout, session.Stderr = stdout, stderr
	stop := context.AfterFunc(ctx, func() { s.client.Close() })
	defer stop()
	err = session.Run(command)
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Signal() == "":
		return exit.ExitStatus(), nil
	case ctx.Err() != nil:
		return 0, fmt.Errorf("run %q: %w", command, context.Cause(ctx))
	}
	return 0, fmt.Errorf("run %q: %w", command, err)
}

// Close ends the connection and the commands on it.
func (s *Shell) Close() error { return s.client.Close() }
