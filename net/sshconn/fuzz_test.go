package sshconn

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// FuzzSession: whatever a client asks of a session, and in whatever order, every request is answered, and the next
// session works.
func FuzzSession(f *testing.F) {
	pty := ssh.Marshal(struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{"xterm", 80, 24, 1 << 31, 0, string([]byte{1, 0, 0, 0, 3, 53, 0, 0, 0, 0, 53, 1})})
	window := ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{1 << 31, 0, 1, 2})
	env := ssh.Marshal(struct{ Name, Value string }{"LC_ALL", "C"})
	word := func(s string) []byte { return ssh.Marshal(struct{ S string }{s}) }
	f.Add("pty-req", pty, "window-change", window)
	f.Add("window-change", window, "pty-req", pty)
	f.Add("env", env, "exec", word("true"))
	f.Add("env", ssh.Marshal(struct{ Name, Value string }{"LD_PRELOAD", "x"}), "subsystem", word("sftp"))
	f.Add("exec", word("true"), "signal", word("TERM"))
	f.Add("subsystem", word("sftp"), "signal", word("KILL"))
	f.Add("subsystem", word("none"), "shell", []byte(nil))
	f.Add("exec", []byte{0xff, 0xff, 0xff, 0xff}, "no-such@request", []byte{0})
	client := fuzzClient(f)
	f.Fuzz(func(t *testing.T, first string, a []byte, second string, b []byte) {
		if len(first)+len(a)+len(second)+len(b) > 16<<10 {
			return // the protocol bounds a packet before a session sees it
		}
		channel, requests, err := client.OpenChannel("session", nil)
		if err != nil {
			t.Fatalf("no session any more: %v", err)
		}
		go ssh.DiscardRequests(requests)
		defer channel.Close()
		for _, r := range []struct {
			name    string
			payload []byte
		}{{first, a}, {second, b}} {
			// io.EOF: an answer to the first request that ended the session, such as that there is no shell.
			granted, _ := channel.SendRequest(r.name, true, r.payload)
			if granted && r.name == "env" && !allowedVariable(r.payload) {
				t.Errorf("env %q is granted", r.payload)
			}
		}
	})
}

func allowedVariable(payload []byte) bool {
	var p struct{ Name, Value string }
	err := ssh.Unmarshal(payload, &p)
	return err == nil && !strings.ContainsRune(p.Name+p.Value, 0) && !strings.Contains(p.Name, "=") &&
		(strings.HasPrefix(p.Name, "LC_") || p.Name == "LANG" || p.Name == "TZ" || p.Name == "COLORTERM")
}

// FuzzForward: whatever a client asks to be connected with, it is answered. Only addresses of this host are tried.
func FuzzForward(f *testing.F) {
	type target struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	f.Add(ssh.Marshal(target{"127.0.0.1", 1, "", 0}))
	f.Add(ssh.Marshal(target{"::1", 1 << 31, "x", 1}))
	f.Add([]byte{0, 0, 0, 9, 'x'})
	f.Add([]byte(nil))
	client := fuzzClient(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var to target
		if ip := net.IP(nil); ssh.Unmarshal(payload, &to) == nil {
			if ip = net.ParseIP(to.Host); ip == nil || !ip.IsLoopback() {
				return
			}
		}
		channel, requests, err := client.OpenChannel("direct-tcpip", payload)
		if err == nil {
			go ssh.DiscardRequests(requests)
			channel.Close()
		} else if _, answered := err.(*ssh.OpenChannelError); !answered {
			t.Fatalf("forward to %q: %v", payload, err)
		}
	})
}

// fuzzClient is a client of a server that has no shell to start.
func fuzzClient(f *testing.F) *ssh.Client {
	server := newFixture(f, func(c *setup) { c.Shell, c.Log = "/no/such/shell", slog.New(slog.DiscardHandler) })
	client, err := ssh.Dial("tcp", server.addr, clientConfig("root"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { client.Close() })
	return client
}
