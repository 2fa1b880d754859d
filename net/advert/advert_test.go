package advert

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestMessage: the bytes of an advertisement. radvdump reads one in the tests of package sharing.
func TestMessage(t *testing.T) {
	own := netip.MustParsePrefix("fd00:1:2:3::1/64")
	r := Router{Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Prefixes: []Prefix{{own, Forever, Forever}},
		Servers: []netip.Addr{own.Addr()}, Default: true}
	const want = "86000000" + "40000708" + "0000000000000000" + "0101020000000001" +
		"030440c0" + "00000e10" + "00000708" + "00000000" + "fd000001000200030000000000000000" +
		"030440c0" + "00001c20" + "00000000" + "00000000" + "fd000001000200040000000000000000" +
		"19030000" + "00000708" + "fd000001000200030000000000000001"
	got := hex.EncodeToString(r.Message(time.Hour, []netip.Prefix{netip.MustParsePrefix("fd00:1:2:4::/64")}))
	if got != want {
		t.Errorf("message\n%s, want\n%s", got, want)
	}
	if got := hex.EncodeToString(Router{}.Message(time.Hour, nil)); got != "86000000"+"40000000"+"0000000000000000" {
		t.Errorf("message of a router that leaves: %s", got)
	}
}

// TestLifetimes: guests may use a delegated prefix as long as the device may, and not for longer than the limits.
func TestLifetimes(t *testing.T) {
	p := netip.MustParsePrefix("2001:db8:f00:1::/64")
	for _, c := range []struct{ preferred, valid, wantPreferred, wantValid time.Duration }{
		{Forever, Forever, 30 * time.Minute, time.Hour},
		{3 * time.Hour, 4 * time.Hour, 30 * time.Minute, time.Hour},
		{70 * time.Minute, 80 * time.Minute, 10 * time.Minute, 20 * time.Minute},
		{60 * time.Minute, 80 * time.Minute, 0, 20 * time.Minute},
		{30 * time.Minute, 80 * time.Minute, 0, 20 * time.Minute},
		{30 * time.Minute, 60 * time.Minute, 0, goneLife}, // over: what RFC 4862 lets nobody shorten
		{0, 0, 0, goneLife},
	} {
		m := Router{Prefixes: []Prefix{{p, c.preferred, c.valid}}}.Message(time.Hour, nil)
		if len(m) != 16+32 {
			t.Fatalf("message of %d bytes", len(m))
		}
		valid := time.Duration(binary.BigEndian.Uint32(m[20:])) * time.Second
		preferred := time.Duration(binary.BigEndian.Uint32(m[24:])) * time.Second
		if valid != c.wantValid || preferred != c.wantPreferred {
			t.Errorf("until %s and %s: preferred %s, valid %s", c.preferred, c.valid, preferred, valid)
		}
	}
}

// TestPast: what was told is taken back for as long as guests may have it, and a server that changes its prefix all the
// time fills no packet.
func TestPast(t *testing.T) {
	nth := func(n int) Prefix {
		return Prefix{netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 7: byte(n)}), 64), time.Hour, 2 * time.Hour}
	}
	var p past
	for n := range 20 {
		p = p.replaced(time.Duration(n)*time.Minute, []Prefix{nth(n)}, []Prefix{nth(n + 1)})
	}
	if len(p) != maxPast || p[0].Prefix != nth(12).Prefix || p[7].Prefix != nth(19).Prefix {
		t.Errorf("past %v", p)
	}
	p = p.replaced(30*time.Minute, []Prefix{nth(20)}, []Prefix{nth(15)}) // one comes back
	if len(p) != maxPast || slices.ContainsFunc(p, func(o Prefix) bool { return o.Prefix == nth(15).Prefix }) {
		t.Errorf("past %v", p)
	}
	if p = p.replaced(31*time.Minute, []Prefix{{Prefix: nth(30).Prefix}}, nil); len(p) != maxPast {
		t.Errorf("past %v, want without what was gone before", p)
	}
	if p = p.since(19*time.Minute + goneLife); len(p) != 1 || p[0].Prefix != nth(20).Prefix {
		t.Errorf("past %v after two hours", p)
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
