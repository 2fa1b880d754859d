package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/services/settings"
)

func newSigner(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func TestKeyring(t *testing.T) {
	one, oneText := newSigner(t)
	two, twoText := newSigner(t)
	var k keyring
	if k.has(one.PublicKey()) {
		t.Error("an empty keyring has a key")
	}
	err := k.take([]string{oneText + " me@here", "ssh-ed25519 AAAA", `command="true" ` + twoText})
	if err == nil || !strings.Contains(err.Error(), "key 2") || !strings.Contains(err.Error(), "key 3: options") {
		t.Errorf("take = %v", err)
	}
	if !k.has(one.PublicKey()) || k.has(two.PublicKey()) {
		t.Error("a bad line costs more than itself, or a restricted key may do everything")
	}
	if err := k.take(nil); err != nil || k.has(one.PublicKey()) {
		t.Errorf("a key that was taken away is there: %v", err)
	}
}

// TestKeysOfSettings: where nobody enters without one, a key of the owner's settings does, from its change on and until the next.
func TestKeysOfSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	f := newFixture(t, func(c *Config) { c.NoAuth, c.Settings = false, path })
	signer, text := newSigner(t)
	enters := func(user string) bool {
		config := clientConfig(user)
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
		client, err := ssh.Dial("tcp", f.addr, config)
		if err != nil {
			return false
		}
		return client.Close() == nil
	}
	publish := func(keys ...string) {
		t.Helper()
		raw, err := json.Marshal(keys)
		if err == nil {
			_, err = settings.Publish(path, settings.Settings{Values: map[string]settings.Value{keysKey: {JSON: raw, From: settings.File}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually := func(want bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); enters("root") != want; {
			if time.Now().After(end) {
				t.Fatalf("root enters: %v, want %v", !want, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if enters("root") {
		t.Fatal("root enters before anything is published")
	}
	publish(text)
	eventually(true)
	if enters("nobody") {
		t.Error("the key is good for others than root")
	}
	publish()
	eventually(false)
}
