// Package accesstest creates keys for tests of the ssh server, and puts them into the settings. Read Publish first.
package accesstest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/services/config"
	"resinos/services/settings"
)

// NewSigner creates a key, and returns it with its public part as a line of os.sshKeys.
func NewSigner(t testing.TB) (ssh.Signer, string) {
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

// Publish writes these lines of os.sshKeys to the settings file at path.
func Publish(t testing.TB, path string, lines ...string) {
	t.Helper()
	raw, err := json.Marshal(lines)
	if err == nil {
		values := map[string]settings.Value{config.SSHKeys: {JSON: raw, From: settings.File}}
		_, err = settings.Publish(path, settings.Settings{Values: values})
	}
	if err != nil {
		t.Fatal(err)
	}
}
