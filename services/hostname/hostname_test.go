package hostname

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	const label, name, server = 1, 2, 4
	long := strings.Repeat("a", MaxLabel)
	for s, want := range map[string]int{
		"a": label | name | server, "a-b": label | name | server, "3com": label | name | server,
		"123": label | name | server,
		long:  label | name | server, "A": label | name | server,
		"x.example": name | server, "a_b.c1": name | server, "a_b": name | server, "_x": name | server,
		long + "." + long + "." + long + "." + long[:61]: name | server,
		"1.2.3.4": server, "2001:db8::1": server, "fe80::1%eth0": server,
		"": 0, ".": 0, "a.": 0, ".a": 0, "a..b": 0, "-a": 0, "a-": 0, "a.-b": 0, "a b": 0, "a\n": 0, "a;b": 0,
		"$(x)": 0, "ä": 0, "\xff": 0,
		"0.0.0.0": 0, "224.0.1.1": 0, "::": 0, "ff02::1": 0, "a:80": 0,
		long + "a": 0, long + "." + long + "." + long + "." + long[:62]: 0,
	} {
		got := 0
		for bit, rule := range map[int]func(string) bool{label: ValidLabel, name: Valid, server: ValidServer} {
			if rule(s) {
				got |= bit
			}
		}
		if got != want {
			t.Errorf("%q: label %v, name %v, server %v", s, got&label != 0, got&name != 0, got&server != 0)
		}
	}
}

// FuzzRules: what is a label is a name, what is a name is a server, and none holds a character that means something
// elsewhere.
func FuzzRules(f *testing.F) {
	f.Add("a-b.example")
	f.Fuzz(func(t *testing.T, s string) {
		if ValidLabel(s) && !Valid(s) || Valid(s) && !ValidServer(s) {
			t.Errorf("%q: label %v, name %v, server %v", s, ValidLabel(s), Valid(s), ValidServer(s))
		}
		if Valid(s) && (len(s) > MaxName || strings.ContainsAny(s, " \t\r\n\x00'\"`$;|&<>()\\/#%:\x1b")) {
			t.Errorf("%q is valid", s)
		}
	})
}
