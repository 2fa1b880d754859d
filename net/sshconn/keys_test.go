package sshconn

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshaccess/accesstest"
)

// TestWhoLogsIn: keys that are set are the only way in, in a variant that is open without them too; what is open
// already lives on.
func TestWhoLogsIn(t *testing.T) {
	signer, text := accesstest.NewSigner(t)
	stranger, _ := accesstest.NewSigner(t)
	for _, noAuth := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoAuth %t", noAuth), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			f := newFixture(t, func(c *setup) { c.NoAuth, c.Settings = noAuth, path })
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
					// Go's client tries nothing first
					{"another key", []ssh.AuthMethod{ssh.PublicKeys(stranger)}, open},
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
			accesstest.Publish(t, path)
			check("no key is set", noAuth, false)
			var running *ssh.Session
			if noAuth {
				running = f.session()
			}
			accesstest.Publish(t, path, text)
			check("a key is set", false, true)
			if noAuth {
				if out, err := running.Output("echo lives on"); err != nil || string(out) != "lives on\n" {
					t.Errorf("the session from before: %q, %v", out, err)
				}
			}
			accesstest.Publish(t, path, "rubbish", text)
			check("one of two is a key", false, true)
			accesstest.Publish(t, path, "rubbish")
			check("none of one is a key", false, false)
			if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
				t.Fatal(err)
			}
			check("nobody knows the keys", false, false)
			accesstest.Publish(t, path)
			check("the keys are gone", noAuth, false)
		})
	}
}

// TestKeySetMeanwhile: who has connected and not logged in yet needs the key too.
func TestKeySetMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	f := newFixture(t, func(c *setup) { c.Settings = path })
	_, text := accesstest.NewSigner(t)
	config := clientConfig("root")
	config.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { // between the key exchange and the login
		accesstest.Publish(t, path, text)
		return nil
	}
	if client, err := ssh.Dial("tcp", f.addr, config); err == nil {
		client.Close()
		t.Error("root entered without the key that was set while it waited")
	}
}

// TestFromThisDevice: a container on the host's network that knows no key is not root on the host, by whichever address
// it comes.
func TestFromThisDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	key, text := accesstest.NewSigner(t)
	cfg := setup{HostKey: key, NoAuth: true, Settings: path}
	tried := 0
	for _, addr := range ownAddresses(t) {
		if addr.IsLinkLocalUnicast() {
			continue // it wants a zone
		}
		tried++
		if dialOwn(t, cfg, addr.String()) == nil {
			t.Errorf("root enters without a key from %s", addr)
		}
		accesstest.Publish(t, path, text)
		if err := dialOwn(t, cfg, addr.String(), ssh.PublicKeys(key)); err != nil {
			t.Errorf("the key does not open from %s: %v", addr, err)
		}
		accesstest.Publish(t, path)
	}
	if tried == 0 {
		t.Error("this host has not even a loopback address")
	}
}

// dialOwn logs in to a server on one of this host's addresses, and from it.
func dialOwn(t *testing.T, cfg setup, addr string, auth ...ssh.AuthMethod) error {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan struct{})
	defer func() { <-served }()
	go func() {
		defer close(served)
		if conn, err := l.Accept(); err == nil {
			serve(t.Context(), cfg, conn)
		}
	}()
	client := clientConfig("root")
	client.Auth = auth
	c, err := ssh.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		c.Close()
	}
	return err
}

func ownAddresses(t *testing.T) (list []netip.Addr) {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr())
		}
	}
	return list
}
