package profilecheck

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// Every warning of the accepted files, and the error of every refused one.
func TestWarningsAndErrors(t *testing.T) {
	var b strings.Builder
	for _, archive := range []string{"accepted.txtar", "refused.txtar", "foreign.txtar"} {
		for _, f := range archived(t, archive) {
			_, warnings, err := Read(f[0], []byte(f[1]))
			for _, w := range warnings {
				fmt.Fprintln(&b, w)
			}
			if err != nil {
				fmt.Fprintln(&b, err)
			}
		}
	}
	testenv.Golden(t, "messages.golden", b.String())
}

// Keys that NetworkManager renamed after 1.42 mean what the old ones mean.
func TestNewSpellings(t *testing.T) {
	const head = "[connection]\nid=a\ntype=ethernet\n"
	for _, tt := range []struct{ old, new string }{
		{head + "master=br0\nslave-type=bridge\n", head + "controller=br0\nport-type=bridge\n"},
		{head + "autoconnect-slaves=1\n", head + "autoconnect-ports=1\n"},
		{head + "[ethernet]\nmac-address-blacklist=52:54:00:12:34:56;\n",
			head + "[ethernet]\nmac-address-denylist=52:54:00:12:34:56;\n"},
		{head + "[ipv4]\nmethod=auto\ndns-search=a;b;\n", head + "[ipv4]\nmethod=auto\ndns-search=a, b\n"},
	} {
		old, _, err := Read("a", []byte(tt.old))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Read("a", []byte(tt.new)); err != nil || !reflect.DeepEqual(got, old) {
			t.Errorf("Read(%q) = %s, %v; want %s", tt.new, got.File(), err, old.File())
		}
	}
}

// The hint of a prefix, which NetworkManager knows since 1.44: a wrong one costs the whole file there.
func TestPrefixHint(t *testing.T) {
	const head = "[connection]\nid=a\ntype=ethernet\n[ipv6]\nmethod=auto\ndhcp-pd-hint="
	for hint, ok := range map[string]bool{"::/60": true, "2001:db8:1200::/56": true, "": true, "2001:db8::": false,
		"::/0": false, "::/129": false, "10.0.0.0/8": false, "fe80::1%eth0/64": false, "60": false} {
		p, warnings, err := Read("a", []byte(head+hint+"\n"))
		if (err == nil) != ok || len(warnings) > 0 {
			t.Errorf("dhcp-pd-hint=%s: %v, %v", hint, warnings, err)
		}
		if ok && p.IPv6.PDHint != hint {
			t.Errorf("dhcp-pd-hint=%s is read as %q", hint, p.IPv6.PDHint)
		}
	}
}

// No message holds the value of a key that may be a secret.
func TestMessagesHoldNoSecret(t *testing.T) {
	const word = "hunter2"
	for _, text := range []string{
		"[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=" + word +
			"\\x\nwep-key0=" + word + "\nunknown=" + word,
		"[wireguard]\nprivate-key=" + word + "\n[wireguard-peer.nonsense]\npreshared-key=" + word,
		"[vpn]\nservice-type=x\n[vpn-secrets]\npassword=" + word + "\\x",
		"[gsm]\npassword=" + word + "\\x\npin=" + word + "\npassword-flags=" + word,
		"[802-1x]\neap=peap\npassword=" + word + "\nprivate-key-password=" + word + "\\;",
	} {
		for _, head := range []string{"[connection]\nid=a\n", "[connection]\nid=\n"} {
			p, warnings, err := Read("a", []byte(head+text))
			if out := fmt.Sprintf("%v %v %+v %#v", warnings, err, p, p); strings.Contains(out, word) {
				t.Errorf("Read(%q) shows the secret: %s", text, out)
			}
		}
	}
}

// Nothing that is read costs the process, and a profile that is accepted is accepted again after it was written.
func FuzzRead(f *testing.F) {
	for _, archive := range []string{"accepted.txtar", "refused.txtar"} {
		for _, one := range archived(f, archive) {
			f.Add([]byte(one[1]))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, _, err := Read("name", text)
		if err != nil {
			return
		}
		again, _, err := Read("name", []byte(p.File().String()))
		if err != nil {
			t.Fatalf("its own writing is refused: %v\n%s", err, p.File())
		}
		if a, b := p.File().String(), again.File().String(); a != b {
			t.Errorf("written\n%s\nthen\n%s", a, b)
		}
	})
}
