package wifi

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"resinos/mounts/testenv"
	"resinos/net/profilecheck"
)

// profiles returns the network of every wireless key file that NetworkManager accepts, and of the ones in more.
func profiles(t *testing.T, certificates string) []Network {
	t.Helper()
	var all []Network
	for _, file := range []string{filepath.Join("..", "profilecheck", "testdata", "accepted.txtar"),
		"testdata/more.txtar"} {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			p, _, err := profilecheck.Read(f.Name, f.Data)
			if err != nil {
				t.Fatal(err)
			}
			if p.WiFi != nil {
				all = append(all, For(f.Name, p, certificates))
			}
		}
	}
	return all
}

// TestNetworks shows what each key file asks of the supplicant. No secret is among it.
func TestNetworks(t *testing.T) {
	var b strings.Builder
	for _, n := range profiles(t, "/run/resinos/wifi/certificates") {
		fmt.Fprintf(&b, "# %s\n", n.File)
		for _, s := range n.Settings {
			fmt.Fprintln(&b, s)
		}
		for _, note := range n.Notes {
			fmt.Fprintln(&b, "note:", note)
		}
		if n.Fault != "" {
			fmt.Fprintln(&b, "fault:", n.Fault)
		}
	}
	testenv.Golden(t, "networks.golden", b.String())
	for _, secret := range []string{"correct horse", "hunter22"} {
		if strings.Contains(b.String(), secret) || strings.Contains(b.String(), fmt.Sprintf("%x", secret)) {
			t.Errorf("the plan shows %s", secret)
		}
	}
}

// TestLineEnds: a line end in a name or a password ends no setting of the supplicant, and one that a password cannot
// have is a fault that says which key, and not what was in it.
func TestLineEnds(t *testing.T) {
	const evil = `horse\nNAME 0 psk "x"`
	for _, c := range []struct{ ssid, security, fault string }{
		{evil, "key-mgmt=wpa-psk\npsk=correct horse\n", ""},
		{"x", "key-mgmt=wpa-psk\npsk=" + evil + "\n", "[wifi-security] psk: "},
		{"x", "key-mgmt=sae\npsk=" + evil + "\n", ""},
		{"x", "key-mgmt=wpa-eap\n[802-1x]\neap=peap\nidentity=" + evil + "\npassword=" + evil +
			"\nphase2-auth=mschapv2\n", ""},
	} {
		text := "[connection]\nid=x\ntype=wifi\n[wifi]\nssid=" + c.ssid + "\n[wifi-security]\n" + c.security
		p, _, err := profilecheck.Read("evil", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		n := For("evil", p, "/run/certificates")
		fault := strings.HasPrefix(n.Fault, c.fault) && (c.fault != "" || n.Fault == "")
		if !fault || strings.Contains(n.Fault, "horse") {
			t.Errorf("%q: fault %q, want %q", text, n.Fault, c.fault)
		}
		for _, s := range n.Settings {
			if strings.ContainsAny(s.Name+s.Value, "\r\n\x00") {
				t.Errorf("%q: the supplicant gets %q", text, s.Value)
			}
		}
	}
}
