package openvpn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"resinos/mounts/testenv"
	"resinos/net/profile"
)

const certificate = "-----BEGIN CERTIFICATE-----\nMDEyMzQ1Njc4OQ==\n-----END CERTIFICATE-----\n"
const private = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGJ5dGVz\n-----END PRIVATE KEY-----\n"

func static() string {
	key := strings.Repeat("0123456789abcdef0123456789ABCDEF\n", 16)
	return "# 2048 bit\n" + staticBegin + "\n" + key + staticEnd + "\n"
}

// ownersFile stands for those of the owner.
func ownersFile(path string) ([]byte, error) {
	switch filepath.Base(path) {
	case "ca.pem", "cert.pem":
		return []byte("Bag Attributes\n</ca>\nup /bin/sh\n" + certificate), nil
	case "key.pem":
		return []byte(private), nil
	case "ta.key":
		return []byte(static()), nil
	case "empty":
		return nil, nil
	}
	return nil, errors.New("no such file")
}

// TestFor: what each key file and each file .ovpn of testdata asks of openvpn, or why it is refused.
func TestFor(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/profiles.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range archive.Files {
		text := strings.NewReplacer("CERTIFICATE\n", certificate, "PRIVATE\n", private, "STATIC\n", static()).
			Replace(string(f.Data))
		parse := profile.Parse
		if strings.HasSuffix(f.Name, Suffix) {
			parse = Parse
		}
		p, warnings, err := parse(f.Name, []byte(text))
		fmt.Fprintf(&out, "# %s\n", f.Name)
		for _, w := range warnings {
			fmt.Fprintf(&out, "warning: %s\n", w)
		}
		if err != nil {
			fmt.Fprintf(&out, "refused: %v\n\n", err)
			continue
		}
		tunnel := For(f.Name, p, ownersFile)
		if tunnel.Fault != "" {
			fmt.Fprintf(&out, "fault: %s\n\n", tunnel.Fault)
			continue
		}
		for _, note := range tunnel.Notes {
			fmt.Fprintf(&out, "note: %s\n", note)
		}
		fmt.Fprintf(&out, "user %q, password %q, named %t, full %t\n%s\n\n", tunnel.User, tunnel.Password.Reveal(),
			tunnel.Named, tunnel.Full, tunnel)
		if text := fmt.Sprintf("%v %+v", tunnel, tunnel); strings.Contains(text, "c2VjcmV0IGJ5dGVz") {
			t.Errorf("%s: a key shows", f.Name)
		}
	}
	testenv.Golden(t, "profiles.golden", out.String())
}

// Every directive that is refused or unknown costs the whole file, and the error names file, line and directive.
func TestRefused(t *testing.T) {
	names := []string{"up", "down", "script-security", "plugin", "route-up", "auth-user-pass-verify", "management",
		"config", "log", "daemon", "user", "group", "iproute", "chroot", "tls-verify", "ipchange", "writepid",
		"no-such"}
	for name := range refused() {
		names = append(names, name)
	}
	for _, name := range names {
		for _, line := range []string{name + " a b", "\t--" + name + " a", `"` + name + `" a`,
			"setenv opt " + name + " a",
			"<" + name + ">\na\n</" + name + ">"} {
			optional := strings.HasPrefix(line, "setenv opt")
			if optional && (name == "no-such" || name == "setenv") {
				continue
			}
			_, _, err := Parse("a.ovpn", []byte("client\nremote 192.0.2.1\n"+line+"\n"))
			if err == nil || !strings.Contains(err.Error(), "a.ovpn:3: ") {
				t.Errorf("%q: %v, want it refused with file and line", line, err)
			}
		}
	}
	for name := range refused() {
		if _, also := allowed()[name]; also || settled()[name] {
			t.Errorf("%s is in two tables", name)
		}
	}
}

// FuzzParse: whatever a file says, openvpn gets allowed directives only, each whole on its line.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/profiles.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, one := range archive.Files {
		f.Add(one.Data)
	}
	ours := []string{"dev", "ifconfig-noexec", "route-noexec", "disable-dco", "connect-retry", "auth-retry",
		"script-security", "suppress-timestamps", "management-hold", "management-query-passwords", "management-up-down",
		"mark", "verb", "persist-key", "persist-tun", "resolv-retry"}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, _, err := Parse("a.ovpn", text)
		if err != nil {
			return
		}
		tunnel := For("a.ovpn", p, ownersFile)
		if tunnel.Fault != "" {
			return
		}
		list, err := scan([]byte(tunnel.Config.Reveal()))
		if err != nil {
			t.Fatalf("the configuration cannot be read: %v\n%s", err, tunnel.Config.Reveal())
		}
		for _, d := range list {
			_, isBlock := blocks(d.words[0])
			switch {
			case d.open && isBlock:
			case !d.open && slices.Contains(ours, d.words[0]):
			case !d.open && judge(d.words[0], d.words[1:]) == nil:
			default:
				t.Errorf("openvpn gets %q", d.words)
			}
		}
	})
}

// FuzzMessages: no line of the management socket causes a panic, an answer is always one line, and what a server pushes
// makes a profile whose addresses and routes are valid.
func FuzzMessages(f *testing.F) {
	text, err := os.ReadFile("testdata/session.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text), "pass\nword")
	f.Add(">UPDOWN:UP\n>UPDOWN:ENV,route_network_1=0.0.0.0\n>UPDOWN:ENV,route_netmask_1=128.0.0.1\n", `a"b\`)
	f.Fuzz(func(t *testing.T, text, secret string) {
		var pushed Pushed
		for line := range strings.Lines(text) {
			m := ParseMessage(line)
			ParseState(m.Text)
			realm, _, _ := Asked(m.Text)
			if command, ok := Answer("password", realm, secret); ok && strings.ContainsAny(command, "\r\n") {
				t.Errorf("an answer of two lines: %q", command)
			}
			shown, _ := Log(m.Text)
			pushed.Hear(shown)
			CauseOf(shown)
			pushed.Environ(m.Text)
		}
		p, _ := Tunnel{Link: "vpn0", Mark: firstMark}.Merge(profile.Profile{}, pushed)
		for _, ip := range []*profile.IP{p.IPv4, p.IPv6} {
			for _, a := range ip.Addresses {
				if !a.IsValid() {
					t.Errorf("address %v", a)
				}
			}
			for _, r := range ip.Routes {
				if !r.Destination.IsValid() {
					t.Errorf("route %v", r)
				}
			}
		}
	})
}

// TestMerge: what a server has pushed in a real session, as a key file would say it.
func TestMerge(t *testing.T) {
	text, err := os.ReadFile("testdata/session.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	var pushed Pushed
	for line := range strings.Lines(string(text)) {
		switch m := ParseMessage(line); m.Kind {
		case "LOG":
			shown, _ := Log(m.Text)
			pushed.Hear(shown)
			if c := CauseOf(shown); c.Rank > 0 {
				fmt.Fprintf(&out, "cause %d: %s\n", c.Rank, c.Text)
			}
		case "STATE":
			s, ok := ParseState(m.Text)
			fmt.Fprintf(&out, "state %+v %t\n", s, ok)
		case "PASSWORD":
			realm, wrong, ok := Asked(m.Text)
			fmt.Fprintf(&out, "asked %q wrong %t %t\n", realm, wrong, ok)
		case "UPDOWN":
			if !pushed.Environ(m.Text) {
				continue
			}
			p := profile.Profile{Connection: profile.Connection{ID: "x", Type: "vpn"}}
			merged, notes := Tunnel{Link: "vpn0", Mark: firstMark}.Merge(p, pushed)
			fmt.Fprintf(&out, "notes %q\n%s\n", notes, merged.File())
		}
	}
	testenv.Golden(t, "session.golden", out.String())
}

// TestNames: a name of a server's, or in a file .ovpn, is one that services/hostname accepts.
func TestNames(t *testing.T) {
	pushed := Pushed{Env: map[string]string{}}
	for i, name := range []string{"corp.example", "a_b", "-a.example", "a-.example", "a..b", "192.0.2.1", "a%b"} {
		pushed.Env[fmt.Sprintf("foreign_option_%d", i+1)] = "dhcp-option DOMAIN " + name
	}
	p, _ := Tunnel{Link: "vpn0", Mark: firstMark}.Merge(profile.Profile{}, pushed)
	if want := []string{"corp.example", "a_b"}; !slices.Equal(p.IPv4.Search, want) {
		t.Errorf("search domains %q, want %q", p.IPv4.Search, want)
	}
	for host, want := range map[string]bool{"vpn.example": true, "vpn.example.": true, "vpn_gateway": true,
		"0.0.0.0": true, "255.255.255.0": true, "fe80::1%eth0": true, "-vpn.example": false, "vpn-.example": false,
		"a..b": false, "": false, "a:b": false, strings.Repeat("a", 64): false} {
		if got := judge("remote", []string{host}) == nil; got != want {
			t.Errorf("remote %q: %v, want %v", host, got, want)
		}
	}
}
