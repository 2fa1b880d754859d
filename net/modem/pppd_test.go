package modem

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"resinos/net/modemstate"
)

// Whatever a name or password is made of, it is one word in quotes for pppd, and no option of its own.
func TestSecretsAreNoOptions(t *testing.T) {
	p := &pppd{line: "ttyUSB0", directory: t.TempDir(), packed: "/packed"}
	lines := strings.Count(p.options(modemstate.Profile{}), "\n")
	word := regexp.MustCompile(`^"([-_./@a-zA-Z0-9]|\\[0-7]{3})*"$`)
	for _, secret := range []string{"", "plain", "two words", `q"uote\`, "line\nconnect /bin/reboot\n#", "#", "ü\x01",
		"a'b`$(c)"} {
		quoted := quote(secret)
		if !word.MatchString(quoted) {
			t.Errorf("quote(%q) = %s", secret, quoted)
		}
		if got, err := strconv.Unquote(quoted); err != nil || got != secret { // Go reads \ooo as pppd does
			t.Errorf("quote(%q) = %s, which is %q, %v", secret, quoted, got, err)
		}
		if text := p.options(modemstate.Profile{User: secret, Password: secret}); strings.Count(text, "\n") != lines {
			t.Errorf("%q has made a line: %s", secret, text)
		}
	}
}

func TestHook(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "modem")
	env := map[string]string{"DNS1": "10.0.0.53", "DNS2": "10.0.0.53"}
	args := []string{"ppp0", "/dev/ttyUSB0", "115200", "10.64.0.2", "10.64.0.1", ""}
	if err := hook(dir, args, func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	var b modemstate.Bearer
	if there, err := modemstate.Read(dir, "up-ttyUSB0", &b); !there || err != nil {
		t.Fatal(there, err)
	}
	if b.Link != "ppp0" || !b.Given || b.Address.String() != "10.64.0.2/32" || len(b.Servers) != 1 {
		t.Errorf("the hook has written %+v", b)
	}
	env = map[string]string{"DNS1": "127.0.0.1", "DNS2": "x"}
	if err := hook(dir, args, func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	b = modemstate.Bearer{}
	if _, err := modemstate.Read(dir, "up-ttyUSB0", &b); err != nil || len(b.Servers) != 0 {
		t.Errorf("name servers %v, %v", b.Servers, err)
	}
	for _, args := range [][]string{nil, args[:4], {"ppp0", "/dev/ttyUSB0", "1", "no address", "10.64.0.1"}} {
		if err := hook(dir, args, os.Getenv); err == nil {
			t.Errorf("hook(%q) succeeded", args)
		}
	}
}
