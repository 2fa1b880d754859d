package vpnserver

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"resinos/net/openvpn"
	"resinos/net/profile"
	"resinos/net/profilecheck"
	"resinos/net/selfsigned"
)

// What New and Add make is a key file that is read back as the same, with a profile that a client of ours takes. A
// client that was removed is in the configuration no more, and a server without clients does not run.
func TestServer(t *testing.T) {
	s := fresh(t)
	if tunnel := For(File, read(t, s)); !strings.Contains(tunnel.Fault, "vpn-server add") {
		t.Errorf("without a client: %q", tunnel.Fault)
	}
	text, err := add(t, &s, "laptop", "vpn.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := add(t, &s, "phone", "[2001:db8::1]:1195"); err != nil {
		t.Fatal(err)
	}
	p := read(t, s)
	tunnel := For(File, p)
	config := tunnel.Config.Reveal()
	if tunnel.Fault != "" || tunnel.Port != 1194 || Port(p) != 1194 || strings.Count(config, s.Clients["laptop"]) != 1 {
		t.Errorf("%+v\n%s", tunnel, tunnel)
	}
	for _, want := range []string{"ifconfig 10.8.0.1 255.255.255.0\n", "script-security 0\n",
		"ifconfig-pool 10.8.0.2 10.8.0.254 255.255.255.0\n", "route-noexec\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("%q is missing in\n%s", want, tunnel)
		}
	}
	client, warnings, err := openvpn.Parse("laptop.ovpn", []byte(text))
	if err != nil || len(warnings) > 0 || openvpn.For("laptop.ovpn", client, nil).Fault != "" {
		t.Errorf("the profile of the client: %v %v", warnings, err)
	}
	block, _ := pem.Decode([]byte(text[strings.Index(text, "<cert>"):]))
	if c, err := x509.ParseCertificate(block.Bytes); err != nil || c.Subject.CommonName != "laptop" {
		t.Errorf("certificate %v, %v", c, err)
	}
	delete(s.Clients, "laptop")
	config = For(File, read(t, s)).Config.Reveal()
	if strings.Count(config, ":") != strings.Count(s.Clients["phone"], ":") {
		t.Errorf("after a removal:\n%s", config)
	}
}

func fresh(t *testing.T) Server {
	t.Helper()
	certificate, key, err := selfsigned.New("server", true)
	if err != nil {
		t.Fatal(err)
	}
	return New(certificate, key)
}

func add(t *testing.T, s *Server, name, endpoint string) (string, error) {
	t.Helper()
	certificate, key, err := selfsigned.New("laptop", false)
	if err != nil {
		t.Fatal(err)
	}
	return s.Add(name, endpoint, certificate, key)
}

func read(t *testing.T, s Server) profile.Profile {
	t.Helper()
	p, warnings, err := profilecheck.Read(File, []byte(s.Text()))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, %v", warnings, err)
	}
	if again, err := Read(p); err != nil || again.Text() != s.Text() {
		t.Fatalf("read back: %v\n%s", err, again.Text())
	}
	return p
}

// What cannot be is refused, with a word about what is wrong.
func TestRefused(t *testing.T) {
	s := fresh(t)
	if _, err := add(t, &s, "laptop", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, endpoint string }{
		{"laptop", "192.0.2.1"}, {"", "192.0.2.1"}, {"a b", "192.0.2.1"}, {"a\nb", "x"}, {"../a", "x"},
		{"b", "a b"}, {"b", "a\nup /bin/sh"}, {"b", "x:port"}, {"b", ""},
	} {
		if _, err := add(t, &s, c.name, c.endpoint); err == nil {
			t.Errorf("Add(%q, %q) works", c.name, c.endpoint)
		}
	}
	good := s.Text()
	for _, change := range [][2]string{
		{"port=1194", "port=0"}, {"port=1194", "port=x"}, {"10.8.0.0/24", "10.8.0.0/30"}, {"10.8.0.0/24", "fd00::/64"},
		{"certificate=", "certificate=:"}, {"client-laptop=", "client-laptop=Z"}, {"key=", "key=:"},
	} {
		p, _, err := profilecheck.Read(File, []byte(strings.Replace(good, change[0], change[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if tunnel := For(File, p); tunnel.Fault == "" || strings.Contains(tunnel.Fault, s.Key.Reveal()) {
			t.Errorf("%q: %q", change, tunnel.Fault)
		}
	}
}
