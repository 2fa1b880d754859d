package sshconn

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/services/settings"
)

func newSigner(t testing.TB) (ssh.Signer, string) {
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

func TestParseKeys(t *testing.T) {
	one, oneText := newSigner(t)
	two, twoText := newSigner(t)
	k, err := ParseKeys([]string{oneText + " me@here", "ssh-ed25519 AAAA", `command="true" ` + twoText})
	if err == nil || !strings.Contains(err.Error(), "key 2") || !strings.Contains(err.Error(), "key 3: options") {
		t.Errorf("ParseKeys = %v", err)
	}
	if !k.Has(one.PublicKey()) || k.Has(two.PublicKey()) {
		t.Error("a bad line costs more than itself, or a restricted key may do everything")
	}
}

// publishKeys puts keys in force.
func publishKeys(t *testing.T, path string, keys ...string) {
	t.Helper()
	raw, err := json.Marshal(keys)
	if err == nil {
		_, err = settings.Publish(path, settings.Settings{Values: map[string]settings.Value{KeysKey: {JSON: raw, From: settings.File}}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhoLogsIn: keys that are set are the only way in, in a variant that is open without them too; what is open already lives on.
func TestWhoLogsIn(t *testing.T) {
	signer, text := newSigner(t)
	stranger, _ := newSigner(t)
	for _, noAuth := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoAuth %t", noAuth), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			f := newFixture(t, func(c *Config) { c.NoAuth, c.Settings = noAuth, path })
			enters := func(user string, auth ...ssh.AuthMethod) bool {
				config := clientConfig(user)
				config.Auth = auth
				client, err := ssh.Dial("tcp", f.addr, config)
				return err == nil && client.Close() == nil
			}
			check := func(when string, open, keyed bool) {
				t.Helper()
				for _, way := range []struct {
					name string
					auth []ssh.AuthMethod
					want bool
				}{
					{"nothing", nil, open},
					{"an empty password", []ssh.AuthMethod{ssh.Password("")}, open},
					{"another key", []ssh.AuthMethod{ssh.PublicKeys(stranger)}, open}, // Go's client tries nothing first
					{"the key", []ssh.AuthMethod{ssh.PublicKeys(signer)}, open || keyed},
				} {
					if got := enters("root", way.auth...); got != way.want {
						t.Errorf("%s: root enters with %s: %t, want %t", when, way.name, got, way.want)
					}
				}
				if enters("nobody", ssh.PublicKeys(signer)) {
					t.Errorf("%s: nobody enters", when)
				}
			}
			check("nothing is published", noAuth, false)
			publishKeys(t, path)
			check("no key is set", noAuth, false)
			var running *ssh.Session
			if noAuth {
				running = f.session()
			}
			publishKeys(t, path, text)
			check("a key is set", false, true)
			if noAuth {
				if out, err := running.Output("echo lives on"); err != nil || string(out) != "lives on\n" {
					t.Errorf("the session from before: %q, %v", out, err)
				}
			}
			publishKeys(t, path, "rubbish", text)
			check("one of two is a key", false, true)
			publishKeys(t, path, "rubbish")
			check("none of one is a key", false, false)
			if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
				t.Fatal(err)
			}
			check("nobody knows the keys", false, false)
			publishKeys(t, path)
			check("the keys are gone", noAuth, false)
		})
	}
}

// TestKeySetMeanwhile: who has connected and not logged in yet needs the key too.
func TestKeySetMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	f := newFixture(t, func(c *Config) { c.Settings = path })
	_, text := newSigner(t)
	config := clientConfig("root")
	config.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { // between the key exchange and the login
		publishKeys(t, path, text)
		return nil
	}
	if client, err := ssh.Dial("tcp", f.addr, config); err == nil {
		client.Close()
		t.Error("root entered without the key that was set while it waited")
	}
}
