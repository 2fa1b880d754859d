package keyvalue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// However a secret is printed, it does not show.
func TestSecretNeverShows(t *testing.T) {
	const word = "hunter2"
	s := NewSecret(word)
	holder := struct {
		Name   string
		Secret Secret
		Some   []Secret
		Named  map[string]Secret
		To     *Secret
	}{"n", s, []Secret{s}, map[string]Secret{"k": s}, &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", holder)
		fmt.Fprintf(&out, verb+"\n", &holder)
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "holder", holder, "error", fmt.Errorf("with %v", s))
	}
	if strings.Contains(out.String(), word) || strings.Contains(out.String(), fmt.Sprintf("%x", word)) {
		t.Errorf("the secret shows in\n%s", out.String())
	}
	if s.Reveal() != word || !strings.Contains(out.String(), "(hidden)") {
		t.Errorf("Reveal = %q", s.Reveal())
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int64{"7": 7, " 0x10\t": 16, "010": 8, "+5": 5, "-3": -3, "0": 0} {
		if got, err := Number(text, -10, 100); err != nil || got != want {
			t.Errorf("Number(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1_0", "0b1", "0x", "--1", "5 5", "101", "-11", "9999999999999999999999"} {
		if got, err := Number(text, -10, 100); err == nil {
			t.Errorf("Number(%q) = %d, want an error", text, got)
		}
	}
}

// A rule that is read and written is the same rule.
func FuzzParseRule(f *testing.F) {
	f.Add("priority 5 from 10.0.0.0/8 table 100", false)
	f.Add("pref 0x10 not to ::1 fwmark 0x5/0xff sport 80-90 uidrange 1-2 iif a oif b prohibit", true)
	f.Fuzz(func(t *testing.T, text string, six bool) {
		r, err := ParseRule(text, six)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String(), six); err != nil || again != r {
			t.Errorf("ParseRule(%q) = %+v, %v; want %+v", r, again, err, r)
		}
	})
}

func TestEndpoint(t *testing.T) {
	for text, want := range map[string]string{"a.example": "a.example 51", "a.example:99": "a.example 99",
		"[2001:db8::1]:99": "2001:db8::1 99", "2001:db8::1": "2001:db8::1 51", "": "", ":99": "", "a:0": "",
		"a:70000": "", "a b": "", "a\n": "", "a;b:1": "", "a/b": "", "a\"": ""} {
		host, port, err := Endpoint(text, 51)
		if got := host + " " + port; want != "" && (got != want || err != nil) || want == "" && err == nil {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestClientName(t *testing.T) {
	for name, want := range map[string]bool{"laptop": true, "A-1_b": true, "": false, "a.b": false, "../x": false,
		"ä": false, "12345678901234567890123456789012": true, "123456789012345678901234567890123": false} {
		if ClientName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
