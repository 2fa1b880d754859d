package registries

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseHosts(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"server = \"https://a.invalid\"\n[host.\"http://b.invalid:5000\"]\ncapabilities = [\"pull\"]\n": "",
		"server = \"ftp://a\"":                   "not the address of a registry",
		"server = \"a\"\nx = 1":                  "unknown key x",
		"server = \"a\"\nserver":                 "line 2",
		"[host.\"a\"]\nverify=1":                 "unknown key host.a.verify",
		"skip_verify = \"yes\"":                  "line 1",
		"server = \"a\"\nca = 5":                 "ca is neither",
		"server = \"a\"\nca = [5]":               "ca is not a list",
		"server = \"a\"\n[header]\nx = [[\"\"]]": "header.x is not a list",
	} {
		_, err := ParseHosts([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ParseHosts(%q) = %v, want %q", text, err, want)
		}
	}
	s, err := ParseHosts([]byte("server = \"http://a:1\"\n[host.b]\nskip_verify = true\n[host.\"http://c\"]\n"))
	if err != nil || !s.Unknown || !s.Plain["a:1"] || !s.Plain["c"] || s.Plain["b"] {
		t.Errorf("trust %+v, %v", s, err)
	}
}

// TestHostsInOrder: mirrors are asked as the file names them, and the registry last.
func TestHostsInOrder(t *testing.T) {
	dir := t.TempDir()
	text := `server = "https://r.invalid"
[host."https://z.invalid/own/"]
override_path = true
capabilities = ["pull"]
ca = ["one.pem", "/two.pem"]
[host."a.invalid:5000"]
header = {X-Key = "k"}
client = "c.pem"
`
	for _, d := range []string{"r.invalid", "s.invalid_5000_"} {
		err := errors.Join(os.MkdirAll(filepath.Join(dir, d), 0o755),
			os.WriteFile(filepath.Join(dir, d, HostsFile), []byte(text), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := Find([]string{"/none", dir}, "r.invalid")
	if err != nil || len(s.Hosts) != 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	var urls []string
	for _, h := range s.Hosts {
		urls = append(urls, h.URL.String())
	}
	want := []string{"https://z.invalid/own", "https://a.invalid:5000/v2", "https://r.invalid/v2"}
	if !reflect.DeepEqual(urls, want) {
		t.Errorf("hosts %v, want %v", urls, want)
	}
	z, a := s.Hosts[0], s.Hosts[1]
	if !z.Pull || z.Resolve || !reflect.DeepEqual(z.CA, []string{filepath.Join(s.Dir, "one.pem"), "/two.pem"}) {
		t.Errorf("first mirror %+v", z)
	}
	if !a.Pull || !a.Resolve || a.Unsupported != "client" || a.Header["X-Key"][0] != "k" {
		t.Errorf("second mirror %+v", a)
	}
	if s, err := Find([]string{dir}, "s.invalid:5000"); err != nil || len(s.Hosts) != 3 {
		t.Errorf("a registry with a port: %+v, %v", s, err)
	}
	if s, err := Find([]string{dir}, "t.invalid"); err != nil || s.Dir != "" {
		t.Errorf("a registry without settings: %+v, %v", s, err)
	}
}

func TestParseLogins(t *testing.T) {
	name := func(host string) string { return strings.TrimPrefix(host, "index.") }
	l, err := ParseLogins([]byte(`{"auths":{"https://index.r.invalid/v1/":{"auth":"bWU6c2VjcmV0"},`+
		`"a.invalid:5000":{"identitytoken":"t"},"b.invalid":{"username":"u","password":"p"}}}`), name)
	if err != nil || l["r.invalid"] != (Login{"me", "secret"}) || l["a.invalid:5000"] != (Login{"", "t"}) ||
		l["b.invalid"] != (Login{"u", "p"}) {
		t.Errorf("%v, %v", l, err)
	}
	for text, want := range map[string]string{
		`{"credsStore":"pass"}`:           "credsStore",
		`{"auths":{"a":{"auth":"####"}}`:  "not the JSON",
		`{"auths":{"a":{"auth":"YQ=="}}}`: "not the base64",
	} {
		if _, err := ParseLogins([]byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseLogins(%s) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("server = \"https://a.invalid\"\n[host.\"http://b.invalid:5000\"]\nskip_verify = true\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = ParseHosts([]byte(text)) })
}

func FuzzParseLogins(f *testing.F) {
	f.Add(`{"auths":{"https://a.invalid/v1/":{"auth":"bWU6c2VjcmV0"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLogins([]byte(text), nil)
		if err == nil {
			_ = l.Secrets()
		}
	})
}
