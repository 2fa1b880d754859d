package qemu

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/mounts/testenv"
)

// serveSSH answers each command with its own text on stdout, and exit status 3; "die" cuts the connection and "hang"
// does not end.
func serveSSH(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveConn(conn, config)
		}
	}()
	return l.Addr().String()
}

func serveConn(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, wishes, err := c.Accept()
		if err != nil {
			return
		}
		for wish := range wishes {
			var command struct{ Text string }
			if ssh.Unmarshal(wish.Payload, &command) != nil {
				continue
			}
			_ = wish.Reply(true, nil)
			switch command.Text {
			case "die":
				server.Close()
				return
			case "hang":
				continue
			}
			_, _ = io.WriteString(channel, command.Text)
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{3}))
			channel.Close()
		}
	}
}

func TestShell(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	address := serveSSH(t)
	shell, err := Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close()
	var out bytes.Buffer
	if code, err := shell.Run(ctx, "echo", &out, io.Discard); code != 3 || err != nil || out.String() != "echo" {
		t.Errorf("Run = %d, %v, %q", code, err, out.String())
	}
	if _, err := shell.Run(ctx, "die", &out, io.Discard); err == nil {
		t.Error("a cut connection gave no error")
	}
	again, err := Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	hanging, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		_, err := again.Run(hanging, "hang", io.Discard, io.Discard)
		ended <- err
	}()
	testenv.NeverReceive(t, 50*time.Millisecond, "the end of a command that hangs", ended)
	stop()
	if err := testenv.Receive(t, "the end with its context", ended); err == nil {
		t.Error("a hanging command gave no error")
	}
}

func TestDialFaults(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts in the kernel, never answers: like QEMU's user network before the guest is up
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Dial(ctx, l.Addr().String())
		ended <- err
	}()
	testenv.NeverReceive(t, 300*time.Millisecond, "a login at a mute server", ended)
	cancel()
	if err := testenv.Receive(t, "the end with its context", ended); err == nil {
		t.Error("logged in at a mute server")
	}
}
