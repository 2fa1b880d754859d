package ownaddress

import (
	"fmt"
	"net"
	"testing"
)

func TestOfContainers(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": false, "wlan0": false, "br0": false, "br-lan": false, "br-0123456789ab": true,
		"br-0123456789abc": false,
		"net-dc751373a8":   true, "docker0": true, "veth12ab": true, "vpn": false, "": false, "lo": false,
	} {
		if got := ofContainers(name); got != want {
			t.Errorf("%q belongs to containers: %v, want %v", name, got, want)
		}
	}
}

func TestGlobal(t *testing.T) {
	var all []net.Addr
	for _, text := range []string{"127.0.0.1/8", "192.0.2.7/24", "::1/128", "fe80::1/64", "2001:db8::7/64",
		"169.254.1.1/16"} {
		ip, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	if got := fmt.Sprint(global(append(all, &net.UnixAddr{}))); got != "[192.0.2.7 2001:db8::7]" {
		t.Errorf("addresses are %s", got)
	}
}
