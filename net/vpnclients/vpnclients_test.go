package vpnclients

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"resinos/net/openvpn"
	"resinos/net/vpnserver"
)

// The first client makes the server, whose key file others cannot read; later changes keep its certificate and the
// other clients; off removes the file, and says so if there is none.
func TestChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "connections")
	path := filepath.Join(dir, vpnserver.File)
	clients := func(want ...string) []byte {
		t.Helper()
		s, there, err := read(path)
		if names := slices.Sorted(maps.Keys(s.Clients)); err != nil || !there || !slices.Equal(names, want) {
			t.Fatalf("clients %q, want %q; %v", names, want, err)
		}
		return s.Certificate
	}
	change := func(args ...string) string {
		t.Helper()
		profile, err := Change(dir, "vpn.example.com", args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return profile
	}
	profile := change("add", "laptop")
	if _, warnings, err := openvpn.Parse("laptop.ovpn", []byte(profile)); err != nil || len(warnings) > 0 {
		t.Errorf("profile of the client: %v %v", warnings, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	before := clients("laptop")
	change("add", "phone")
	change("remove", "laptop")
	if after := clients("phone"); string(after) != string(before) {
		t.Error("the server has another certificate")
	}
	for _, c := range []struct{ args, want string }{
		{"", "it needs"}, {"add", "it needs"}, {"off x", "it needs"}, {"fly x", "it needs"},
		{"add phone", "already"}, {"add ../x", "cannot be the name"}, {"remove laptop", "no client is called"},
	} {
		if _, err := Change(dir, "h", strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	clients("phone")
	change("off")
	for _, args := range [][]string{{"off"}, {"remove", "phone"}} {
		if _, err := Change(dir, "", args...); err == nil || !strings.Contains(err.Error(), "no VPN server") {
			t.Errorf("%q without a server: %v", args, err)
		}
	}
}

// A key file that is not what it should be is kept as it is, and the message holds no key; off removes the file.
func TestSpoilt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, vpnserver.File)
	if _, err := Change(dir, "h", "add", "laptop"); err != nil {
		t.Fatal(err)
	}
	s, _, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "garbage\n", strings.Replace(s.Text(), "port=1194", "port=0", 1),
		strings.Replace(s.Text(), "key=", "key=:", 1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"add", "phone"}, {"remove", "laptop"}} {
			_, err := Change(dir, "h", args...)
			if err == nil || !strings.Contains(err.Error(), "mend the file") {
				t.Errorf("%q: %v", args, err)
			} else if strings.Contains(err.Error(), s.Key.Reveal()) {
				t.Errorf("%q: the message holds the key", args)
			}
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("the file was changed to %q, %v", kept, err)
		}
	}
	if _, err := Change(dir, "", "off"); err != nil {
		t.Error(err)
	}
}

// Changes at once lose no client.
func TestAtOnce(t *testing.T) {
	dir := t.TempDir()
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			if _, err := Change(dir, "h", "add", fmt.Sprint("client", i)); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if s, _, err := read(filepath.Join(dir, vpnserver.File)); err != nil || len(s.Clients) != 8 {
		t.Errorf("%d clients, %v", len(s.Clients), err)
	}
}
