package fetcher

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseHosts(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"server = \"https://a.invalid\"\n[host.\"http://b.invalid:5000\"]\ncapabilities = [\"pull\"]\n": "",
		"server = \"ftp://a\"":   "not the address of a registry",
		"server = \"a\"\nx = 1":  "unknown key x",
		"server = \"a\"\nserver": "line 2",
		"[host.\"a\"]\nverify=1": "unknown key host.a.verify",
		"skip_verify = \"yes\"":  "line 1",
	} {
		_, err := parseHosts([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("parseHosts(%q) = %v, want %q", text, err, want)
		}
	}
	trust, err := parseHosts([]byte("server = \"http://a:1\"\n[host.b]\nskip_verify = true\n[host.\"http://c\"]\n"))
	if err != nil || !trust.unknown || !trust.plain["a:1"] || !trust.plain["c"] || trust.plain["b"] {
		t.Errorf("trust %+v, %v", trust, err)
	}
}

func TestParseLogins(t *testing.T) {
	named, err := reference.ParseNormalizedNamed("x") // short names are of docker's own registry
	if err != nil {
		t.Fatal(err)
	}
	short := reference.Domain(named)
	l, err := parseLogins([]byte(`{"auths":{"https://index.` + short + `/v1/":{"auth":"bWU6c2VjcmV0"},` +
		`"a.invalid:5000":{"identitytoken":"t"},"b.invalid":{"username":"u","password":"p"}}}`))
	if err != nil || l[short] != (login{"me", "secret"}) || l["a.invalid:5000"] != (login{"", "t"}) ||
		l["b.invalid"] != (login{"u", "p"}) {
		t.Errorf("%v, %v", l, err)
	}
	for text, want := range map[string]string{
		`{"credsStore":"pass"}`:           "credsStore",
		`{"auths":{"a":{"auth":"####"}}`:  "not the JSON",
		`{"auths":{"a":{"auth":"YQ=="}}}`: "not the base64",
	} {
		if _, err := parseLogins([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseLogins(%s) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("server = \"https://a.invalid\"\n[host.\"http://b.invalid:5000\"]\nskip_verify = true\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseHosts([]byte(text)) })
}

func FuzzParseLogins(f *testing.F) {
	f.Add(`{"auths":{"https://a.invalid/v1/":{"auth":"bWU6c2VjcmV0"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLogins([]byte(text))
		if err == nil {
			_ = l.words()
		}
	})
}
