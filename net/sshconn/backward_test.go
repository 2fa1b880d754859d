package sshconn

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sshagent "golang.org/x/crypto/ssh/agent"

	"resinos/mounts/testenv"
)

// TestRemoteForward: what connects to a port of the device talks to the client's side, half-closed too; never a
// stranger.
func TestRemoteForward(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial()
	l, err := client.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			question, _ := io.ReadAll(conn)
			conn.Write(bytes.Repeat(question, 1000))
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if port == "0" {
		t.Fatal("the client does not learn its port")
	}
	ask := func(host string) (string, error) {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), testenv.Patience())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testenv.Patience()))
		io.WriteString(conn, "question")
		conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		return string(answer), err
	}
	if answer, err := ask("127.0.0.1"); err != nil || answer != strings.Repeat("question", 1000) {
		t.Errorf("answer of %d bytes, %v", len(answer), err)
	}
	for _, own := range ownAddresses(t) {
		if _, err := ask(own.String()); err == nil && !own.IsLoopback() {
			t.Errorf("strangers reach the port at %s", own)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if _, err := ask("127.0.0.1"); err == nil {
		t.Error("the port is open after it was cancelled")
	}
}

// TestRemoteForwardEnds: the ports go with the client; a port that is taken is refused, and there are not endless ones.
func TestRemoteForwardEnds(t *testing.T) {
	f := newFixture(t, nil)
	client := f.dial()
	var ports []string
	for {
		l, err := client.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			break
		}
		ports = append(ports, l.Addr().String())
	}
	if len(ports) != maxRemotes {
		t.Errorf("%d ports were opened, want %d", len(ports), maxRemotes)
	}
	if other, err := f.dial().Listen("tcp", ports[0]); err == nil {
		other.Close()
		t.Error("a port that is taken was opened again")
	}
	client.Close()
	f.stop()
	for _, at := range ports {
		if conn, err := net.Dial("tcp", at); err == nil {
			conn.Close()
			t.Errorf("%s is open after its client went", at)
		}
	}
}

// TestAgent: the client's keys answer on the device as long as the session lasts, and leave nothing there.
func TestAgent(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := newFixture(t, nil)
	client := f.dial()
	keys := sshagent.NewKeyring()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		err = keys.Add(sshagent.AddedKey{PrivateKey: private, Comment: "mine"})
	}
	if err == nil {
		err = sshagent.ForwardToAgent(client, keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.NewSession()
	if err == nil {
		err = sshagent.RequestAgentForwarding(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Start("echo $SSH_AUTH_SOCK; cat"); err != nil {
		t.Fatal(err)
	}
	var path string
	if _, err := fmt.Fscanln(out, &path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory of the socket: %v, %v", info, err)
	}
	for range 2 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(testenv.Patience()))
		list, err := sshagent.NewClient(conn).List()
		if err != nil || len(list) != 1 || list[0].Comment != "mine" {
			t.Errorf("keys = %v, %v", list, err)
		}
		defer conn.Close()
	}
	in.Close()
	if err := s.Wait(); err != nil {
		t.Errorf("the session ends with %v, while questions are open", err)
	}
	f.stop()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	// Not asked for, not there.
	plain := newFixture(t, nil).session()
	if out, err := plain.Output(`echo "$SSH_AUTH_SOCK"`); err != nil || string(out) != "\n" {
		t.Errorf("without being asked: %q, %v", out, err)
	}
}

// TestWithoutShell: a production device has none, and runs what a command names.
func TestWithoutShell(t *testing.T) {
	f := newFixture(t, func(c *setup) { c.Shell = "/no/such/shell" })
	if out, err := f.session().Output(`printf '%s.' "a b" c`); err != nil || string(out) != "a b.c." {
		t.Errorf("printf says %q, %v", out, err)
	}
	for _, command := range []string{"true; true", "no-such-command-here", "echo $HOME"} {
		s := f.session()
		var stderr bytes.Buffer
		s.Stderr = &stderr
		if err := s.Run(command); err == nil || !strings.Contains(err.Error(), "127") || stderr.Len() == 0 {
			t.Errorf("%s ends with %v and says %q, want 127 and why", command, err, &stderr)
		}
	}
}
