package advert

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

// TestMessage: the bytes of an advertisement. radvdump reads one in the tests of package sharing.
func TestMessage(t *testing.T) {
	own := netip.MustParsePrefix("fd00:1:2:3::1/64")
	r := Router{Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{own},
		Servers: []netip.Addr{own.Addr()}, Default: true}
	const want = "86000000" + "40000708" + "0000000000000000" + "0101020000000001" +
		"030440c0" + "00000e10" + "00000708" + "00000000" + "fd000001000200030000000000000000" +
		"030440c0" + "00001c20" + "00000000" + "00000000" + "fd000001000200040000000000000000" +
		"19030000" + "00000708" + "fd000001000200030000000000000001"
	got := hex.EncodeToString(r.Message([]netip.Prefix{netip.MustParsePrefix("fd00:1:2:4::/64")}))
	if got != want {
		t.Errorf("message\n%s, want\n%s", got, want)
	}
	if got := hex.EncodeToString(Router{}.Message(nil)); got != "86000000"+"40000000"+"0000000000000000" {
		t.Errorf("message of a router that leaves: %s", got)
	}
}

func TestAsks(t *testing.T) {
	plain := []byte{solicitation, 0, 0, 0, 0, 0, 0, 0}
	for what, c := range map[string]struct {
		p    []byte
		hops int
		want bool
	}{
		"plain":              {plain, 255, true},
		"with its address":   {append(bytes.Clone(plain), 1, 1, 2, 0, 0, 0, 0, 1), 255, true},
		"from beyond":        {plain, 254, false},
		"unknown distance":   {plain, 0, false},
		"cut":                {plain[:7], 255, false},
		"empty":              {nil, 255, false},
		"of another kind":    {[]byte{advertisement, 0, 0, 0, 0, 0, 0, 0}, 255, false},
		"with a code":        {[]byte{solicitation, 1, 0, 0, 0, 0, 0, 0}, 255, false},
		"option of length 0": {append(bytes.Clone(plain), 1, 0, 2, 0, 0, 0, 0, 1), 255, false},
		"option that is cut": {append(bytes.Clone(plain), 1, 2, 2, 0, 0, 0, 0, 1), 255, false},
		"rest of an option":  {append(bytes.Clone(plain), 1, 1, 2), 255, false},
	} {
		if got := asks(c.p, c.hops); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func FuzzAsks(f *testing.F) {
	f.Add([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, 255)
	f.Fuzz(func(_ *testing.T, p []byte, hops int) { asks(p, hops) })
}
