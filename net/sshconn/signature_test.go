package sshconn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshaccess/accesstest"
)

// TestSignature: the signature of an ed25519 key reaches the gate, which refuses the login otherwise; keys of other
// kinds enter without. If this fails after an update of golang.org/x/crypto, read signature.
func TestSignature(t *testing.T) {
	ed, _ := accesstest.NewSigner(t)
	signers := map[string]ssh.Signer{"ed25519": ed}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if signers["rsa"], err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signers["ecdsa"], err = ssh.NewSignerFromKey(curve); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	var lines []string
	for _, s := range signers {
		lines = append(lines, string(ssh.MarshalAuthorizedKey(s.PublicKey())))
	}
	accesstest.Publish(t, path, lines...)
	f := newFixture(t, func(c *setup) { c.NoAuth, c.Settings = false, path })
	for name, s := range signers {
		config := clientConfig("root")
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(s)}
		client, err := ssh.Dial("tcp", f.addr, config)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		client.Close()
	}
}

// TestRenewedKeys: when the keys of a connection are renewed after the login, root's process signs.
func TestRenewedKeys(t *testing.T) {
	f := newFixture(t, nil)
	config := clientConfig("root")
	config.RekeyThreshold = 64 << 10
	client, err := ssh.Dial("tcp", f.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("head -c 1000000 /dev/zero"); err != nil || len(out) != 1000000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}
