package sshaccess

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/mounts/testenv"
	"resinos/net/sshaccess/accesstest"
	"resinos/net/sshmsg"
)

// gate is a running gate, as the process of a connection sees it.
type gate struct {
	t      *testing.T
	conn   *sshmsg.Conn
	served chan error
}

func newGate(t *testing.T, host ssh.Signer, keys ...string) *gate {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	accesstest.Publish(t, path, keys...)
	asked, file, err := sshmsg.Pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := sshmsg.Take(file)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, conn: conn, served: make(chan error, 1)}
	real := Gate{HostKey: host, Settings: path, Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)},
		Local: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)},
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
		Enter: func(bool) (*os.File, error) { return os.Open("/dev/null") }}
	go func() { g.served <- real.Serve(asked, testenv.Patience()) }()
	t.Cleanup(func() { conn.Close() })
	return g
}

// enters reports why a login is refused; empty: it is not.
func (g *gate) enters(m sshmsg.Enter) string {
	files, err := g.conn.Ask(m, &sshmsg.Done{}, 1)
	if err != nil {
		return err.Error()
	}
	sshmsg.CloseAll(files)
	if err := testenv.Receive(g.t, "the end of the gate", g.served); err != nil {
		g.t.Errorf("Serve = %v", err)
	}
	return ""
}

func (g *gate) sign(hash []byte) (sshmsg.Signed, error) {
	var s sshmsg.Signed
	_, err := g.conn.Ask(sshmsg.Sign{Hash: hash}, &s, 0)
	return s, err
}

// TestEnter: the process of a connection may have been taken over. Without the client's own signature over the session
// that the gate has signed, no word of it opens the gate for an ed25519 key; a key that is not listed, or another user,
// never.
func TestEnter(t *testing.T) {
	host, _ := accesstest.NewSigner(t)
	mine, text := accesstest.NewSigner(t)
	stranger, _ := accesstest.NewSigner(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	hash, second := make([]byte, hashSize), []byte(strings.Repeat("x", hashSize))
	signed := func(by ssh.Signer, session []byte, user string, key ssh.PublicKey) []byte {
		s, err := by.Sign(rand.Reader, signedForLogin(session, user, key))
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(s)
	}
	blob := mine.PublicKey().Marshal()
	for name, tt := range map[string]struct {
		m     sshmsg.Enter
		early bool // before a key exchange
		why   string
	}{
		"signed": {sshmsg.Enter{User: "root", Key: blob, Signature: signed(mine, hash, "root", mine.PublicKey())},
			false, ""},
		"no signature": {sshmsg.Enter{User: "root", Key: blob}, false, "read signature"},
		"another session": {sshmsg.Enter{User: "root", Key: blob, Signature: signed(mine, second, "root",
			mine.PublicKey())}, false, "did not verify"},
		"no session": {sshmsg.Enter{User: "root", Key: blob, Signature: signed(mine, hash, "root",
			mine.PublicKey())}, true, "no key exchange"},
		"signed by a stranger": {sshmsg.Enter{User: "root", Key: blob, Signature: signed(stranger, hash, "root",
			mine.PublicKey())}, false, "did not verify"},
		"signed for another": {sshmsg.Enter{User: "root", Key: blob, Signature: signed(mine, hash, "guest",
			mine.PublicKey())}, false, "did not verify"},
		"a stranger": {sshmsg.Enter{User: "root", Key: stranger.PublicKey().Marshal(),
			Signature: signed(stranger, hash, "root", stranger.PublicKey())}, false, "not one of os.sshKeys"},
		"another user": {sshmsg.Enter{User: "guest", Key: blob, Signature: signed(mine, hash, "guest",
			mine.PublicKey())}, false, "only root"},
		"no key":  {sshmsg.Enter{User: "root"}, false, "a key is needed"},
		"rubbish": {sshmsg.Enter{User: "root", Key: []byte("rubbish")}, false, "log in"},
		// the package says why
		"another kind": {sshmsg.Enter{User: "root", Key: other.PublicKey().Marshal()}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, host, text, string(ssh.MarshalAuthorizedKey(other.PublicKey())))
			if !tt.early {
				if s, err := g.sign(hash); err != nil ||
					host.PublicKey().Verify(hash, &ssh.Signature{Format: s.Format, Blob: s.Blob}) != nil {
					t.Fatalf("the host key signs %v, %v", s, err)
				}
				g.sign(second) // keys are renewed; the session stays
			}
			if why := g.enters(tt.m); !strings.Contains(why, tt.why) || why != "" && tt.why == "" {
				t.Errorf("refused for %q, want %q", why, tt.why)
			}
		})
	}
}

// TestSignsHashesOnly: what could mean something elsewhere is not signed.
func TestSignsHashesOnly(t *testing.T) {
	host, _ := accesstest.NewSigner(t)
	g := newGate(t, host)
	for _, size := range []int{0, hashSize - 1, hashSize + 1, 4000} {
		if s, err := g.sign(make([]byte, size)); err == nil {
			t.Errorf("%d bytes are signed: %v", size, s)
		}
	}
}

// TestGateEnds: at what is no question, after too many of them, and with the one who asks.
func TestGateEnds(t *testing.T) {
	host, _ := accesstest.NewSigner(t)
	g := newGate(t, host)
	g.conn.Send(sshmsg.Talk{})
	if err := testenv.Receive(t, "the end", g.served); err == nil || Ended(err) {
		t.Errorf("after what is no question: %v", err)
	}
	g = newGate(t, host)
	var last error
	for range maxQuestions + 1 {
		if _, last = g.conn.Ask(sshmsg.Begin{}, &sshmsg.Begun{}, 0); last != nil {
			break
		}
	}
	if !errors.Is(last, io.EOF) && last == nil {
		t.Error("it answers for ever")
	}
	if err := testenv.Receive(t, "the end", g.served); err == nil || Ended(err) {
		t.Errorf("after too many questions: %v", err)
	}
	g = newGate(t, host)
	g.conn.Close()
	if err := testenv.Receive(t, "the end", g.served); !Ended(err) {
		t.Errorf("after the end of who asks: %v", err)
	}
}

// FuzzGate: whatever is asked, it is answered or the end, and nobody enters: no key is listed.
func FuzzGate(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []any{sshmsg.Begin{}, sshmsg.Sign{Hash: make([]byte, hashSize)}, sshmsg.Offer{User: "root",
		Key: host.PublicKey().Marshal()},
		sshmsg.Enter{User: "root", Key: host.PublicKey().Marshal(), Signature: []byte{0, 0, 0, 9, 1}},
		sshmsg.Enter{User: "root"}} {
		f.Add(ssh.Marshal(m))
	}
	asked, file, err := sshmsg.Pair()
	if err != nil {
		f.Fatal(err)
	}
	conn, err := sshmsg.Take(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { asked.Close(); conn.Close() })
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) == 0 {
			return // it is the end of the socket
		}
		g := Gate{HostKey: host, Remote: &net.TCPAddr{}, Local: &net.TCPAddr{}, Log: slog.New(slog.DiscardHandler),
			Enter: func(bool) (*os.File, error) { t.Errorf("%q enters", packet); return nil, io.EOF }}
		if entered, err := g.answer(asked, packet); entered {
			t.Errorf("%q enters", packet)
		} else if err != nil {
			return
		}
		if _, _, err := conn.Receive(4 << 10); err != nil {
			t.Errorf("%q is answered with %v", packet, err)
		}
	})
}
