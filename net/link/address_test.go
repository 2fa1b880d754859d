package link

import (
	"testing"
)

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte("\x02\x18\x80\x00\x02\x00\x00\x00" + "\x08\x00\x02\x00\x0a\x00\x02\x0f" +
		"\x05\x00\x0b\x00\x10\x00\x00\x00" +
		"\x14\x00\x06\x00\x10\x0e\x00\x00\x10\x0e\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x0a\x40\x80\x00\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, m []byte) {
		a, _, err := parseAddress(m)
		if err == nil && (!a.Prefix.IsValid() || a.Valid < 0 || a.Valid > Forever) {
			t.Errorf("parseAddress(%q) = %+v", m, a)
		}
	})
}
