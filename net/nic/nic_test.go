package nic

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// What is set shows in the words of ethtool; what a driver cannot do is an error that names it, and costs nothing else.
func TestApply(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "t0"}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		testenv.Lacking(t, "tap links: %v", err)
	}
	l, err := netlink.LinkByName("t0")
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	shown := func() string { return testenv.Run(t, "ethtool", "t0") }
	if err := Apply(l.Attrs().Index, "t0", Settings{Speed: 100, Everyone: &yes}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"Speed: 100Mb/s", "Duplex: Half", "Auto-negotiation: off"} {
		if got := shown(); !strings.Contains(got, want) {
			t.Errorf("ethtool does not show %q: %s", want, got)
		}
	}
	promiscuous := func() bool {
		l, err := netlink.LinkByName("t0")
		return err == nil && l.Attrs().Promisc == 1
	}
	if !promiscuous() {
		t.Error("the link does not receive the frames for everyone")
	}
	err = Apply(l.Attrs().Index, "t0", Settings{Wake: &Wake{On: WakeMagic, Password: []byte("sesame")}, Everyone: &no})
	if err == nil || err.Error() != "t0: set wake-on-lan 0x20: the card or its driver cannot do that" {
		t.Errorf("Apply = %v", err)
	}
	if promiscuous() {
		t.Error("the link still receives the frames for everyone")
	}
}

// The addresses that a network announces end as the token says.
func TestToken(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.Cable(t, "w0").Up()
	l, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{Token: netip.MustParseAddr("::5:6:7:8")}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/w0/accept_ra", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	err = Apply(l.Attrs().Index, "w0", s)
	if err == nil || !strings.Contains(err.Error(), "takes no router advertisements") {
		t.Errorf("Apply = %v", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/w0/accept_ra", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Apply(l.Attrs().Index, "w0", s); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Run(t, "ip", "token", "get", "dev", "w0"); got != "token ::5:6:7:8 dev w0" {
		t.Errorf("ip says %q", got)
	}
}

func TestSteps(t *testing.T) {
	no := false
	for want, s := range map[string]Settings{
		"":                                  {},
		"negotiate speed and duplex":        {Negotiate: true},
		"negotiate speed 1000, duplex full": {Negotiate: true, Speed: 1000, Full: true},
		"set speed 10, duplex half":         {Speed: 10},
		"set wake-on-lan 0x60":              {Wake: &Wake{On: WakeMagic | WakeMagicSecure, Password: []byte("sesame")}},
		"set accept-all-mac-addresses false|set token ::1": {Everyone: &no, Token: netip.MustParseAddr("::1")},
	} {
		if got := strings.Join(s.Steps(), "|"); got != want {
			t.Errorf("Steps(%+v) = %s, want %s", s, got, want)
		}
	}
}
