package wireguardserver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"resinos/net/profilecheck"
)

func key(letter string) (k Key) {
	copy(k[:], strings.Repeat(letter, 32))
	return k
}

func server(t *testing.T) Server {
	t.Helper()
	s, err := New(key("s"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A peer gets its own address, and the profile says nothing of other peers; who is removed is in the file no more.
func TestPeers(t *testing.T) {
	s := server(t)
	one, err := s.Add("laptop", "vpn.example.com", key("a"), key("p"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Add("phone", "[fd00::1]:5000", key("b"), key("q"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key("a").public()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PrivateKey = " + key("a").text(), "PresharedKey = " + key("p").text(),
		"Address = 10.9.0.2/32", "Endpoint = vpn.example.com:51820", "AllowedIPs = 10.9.0.1/32"} {
		if !strings.Contains(one, want+"\n") {
			t.Errorf("the profile lacks %q", want)
		}
	}
	if !strings.Contains(two, "Address = 10.9.0.3/32\n") || !strings.Contains(two, "Endpoint = [fd00::1]:5000\n") ||
		strings.Contains(two, public) {
		t.Error("the second profile is wrong")
	}
	for _, secret := range []Key{key("a"), key("b")} {
		if strings.Contains(s.Text(), secret.text()) {
			t.Error("the key file has the private key of a peer")
		}
	}
	p, warnings, err := profilecheck.Read(File, []byte(s.Text()))
	if err != nil || len(warnings) > 0 || len(p.WireGuard.Peers) != 2 || p.WireGuard.ListenPort != usualPort {
		t.Errorf("the key file: %v, %v", warnings, err)
	}
	if err := s.Remove("laptop"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.Text(), public) || fmt.Sprint(s.Peers()) != "[phone]" {
		t.Errorf("peers %v after the removal", s.Peers())
	}
	three, err := s.Add("tablet", "h", key("c"), key("r"))
	if err != nil || !strings.Contains(three, "= 10.9.0.2/32\n") {
		t.Errorf("the address is not free again: %v", err)
	}
}

// What an owner has changed or added stays.
func TestOwnersKeysStay(t *testing.T) {
	s := server(t)
	text := strings.Replace(s.Text(), "51820", "4000", 1)
	text = strings.Replace(text, "10.9.0.1/24", "172.20.1.9/29", 1) + "\n[user]\nnote.text=mine\n"
	s, err := Read(File, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		profile, err := s.Add(fmt.Sprint("p", i), "h", key(fmt.Sprint(i)), key("x"))
		if err != nil || !strings.Contains(profile, "Endpoint = h:4000\n") {
			t.Fatalf("peer %d: %v", i, err)
		}
	}
	if _, err := s.Add("p6", "h", key("6"), key("x")); err == nil || !strings.Contains(err.Error(), "larger network") {
		t.Errorf("a sixth peer in a network of six addresses: %v", err)
	}
	if !strings.Contains(s.Text(), "note.text=mine\n") || !strings.Contains(s.Text(), "172.20.1.9/29") {
		t.Error("the owner's keys are gone")
	}
}

func TestRefused(t *testing.T) {
	s := server(t)
	if _, err := s.Add("laptop", "h", key("a"), key("p")); err != nil {
		t.Fatal(err)
	}
	before := s.Text()
	for _, c := range []struct{ name, endpoint, want string }{
		{"laptop", "h", "already"}, {"", "h", "cannot be the name"}, {"../x", "h", "cannot be the name"},
		{"a\nb", "h", "cannot be the name"}, {"a=b", "h", "cannot be the name"},
		{strings.Repeat("a", 33), "h", "cannot be the name"},
		{"x", "", "endpoint"}, {"x", "h:0", "endpoint"}, {"x", "h:99999", "endpoint"},
		{"x", "h\nPostUp = reboot", "endpoint"},
		{"x", "h #", "endpoint"}, {"x", ":1", "endpoint"},
	} {
		_, err := s.Add(c.name, c.endpoint, key("b"), key("q"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Add(%q, %q) = %v, want %q", c.name, c.endpoint, err, c.want)
		}
	}
	if err := s.Remove("nobody"); err == nil || !strings.Contains(err.Error(), "laptop") {
		t.Errorf("Remove = %v", err)
	}
	if s.Text() != before {
		t.Error("what was refused has changed the file")
	}
	for _, c := range []struct{ old, new, want string }{
		{"type=wireguard", "type=ethernet", ""}, {"listen-port=51820", "listen-port=0", "listen-port"},
		{"private-key=", "private-key=x", "private-key"}, {"address1=10.9.0.1/24", "address1=10.9.0.1/32", "address1"},
	} {
		_, err := Read("x.nmconnection", []byte(strings.Replace(before, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), key("s").text()) {
			t.Errorf("with %q: %v", c.new, err)
		}
	}
}

// Whatever is in the file, what Add returns has one line for each of its keys, and an address of the network.
func FuzzRead(f *testing.F) {
	s, err := New(key("s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Text(), "h:1")
	f.Add("[connection]\nid=x\ntype=wireguard\n[user]\npeer.a=b\n", "fd00::1")
	f.Fuzz(func(t *testing.T, text, endpoint string) {
		s, err := Read(File, []byte(text))
		if err != nil {
			return
		}
		profile, err := s.Add("new", endpoint, key("a"), key("p"))
		if err != nil {
			return
		}
		if lines := strings.Count(profile, "\n"); lines != 11 {
			t.Fatalf("%d lines: %s", lines, profile)
		}
		_, rest, _ := strings.Cut(profile, "\nAddress = ")
		address, _, _ := strings.Cut(rest, "\n")
		if p, err := netip.ParsePrefix(address); err != nil || !s.own.Contains(p.Addr()) {
			t.Errorf("address %q, %v", address, err)
		}
		if err := s.Remove("new"); err != nil {
			t.Error(err)
		}
	})
}
