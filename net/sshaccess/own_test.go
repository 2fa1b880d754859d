package sshaccess

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestWithinDevice(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	links := []ownLink{
		{"lo", prefixes("127.0.0.1/8", "::1/128"), true},
		{"eth0", prefixes("192.0.2.10/24", "2001:db8::10/64", "fe80::10/64"), false},
		{"br0", prefixes("172.17.0.1/16", "fd00::1/64", "fe80::1/64"), true},
	}
	const here = "192.0.2.10"
	for _, tt := range []struct{ remote, local, want string }{
		{"192.0.2.77", here, ""},
		{"::ffff:192.0.2.77", "::ffff:192.0.2.10", ""},
		{"198.51.100.1", here, ""},
		{"2001:db8::77", "2001:db8::10", ""},
		{"fe80::77%eth0", "fe80::10%eth0", ""},
		{"127.0.0.1", "127.0.0.1", "this device itself"},
		{"127.9.9.9", "127.0.0.1", "this device itself"},
		{"::ffff:127.0.0.1", "::ffff:127.0.0.1", "this device itself"},
		{"::1", "::1", "this device itself"},
		{here, here, "this device itself"},
		{"::ffff:192.0.2.10", "::ffff:192.0.2.10", "this device itself"},
		{"172.17.0.1", here, "this device itself"}, // another of its own
		{"2001:db8::10", "2001:db8::10", "this device itself"},
		{"fe80::10%eth0", "fe80::1%br0", "this device itself"},
		{"203.0.113.5", "203.0.113.5", "this device itself"}, // a local route, which no link shows
		{"172.17.0.2", "172.17.0.1", "a container on link br0"},
		{"172.17.0.2", here, "a container on link br0"},
		{"::ffff:172.17.0.2", "::ffff:192.0.2.10", "a container on link br0"},
		{"fd00::2", "2001:db8::10", "a container on link br0"},
		{"fe80::2%br0", "fe80::1%br0", "a container on link br0"},
	} {
		if got := withinDevice(netip.MustParseAddr(tt.remote), netip.MustParseAddr(tt.local), links); got != tt.want {
			t.Errorf("withinDevice(%s, %s) = %q, want %q", tt.remote, tt.local, got, tt.want)
		}
	}
	if withinDevice(netip.Addr{}, netip.Addr{}, links) == "" {
		t.Error("a client without an address comes from outside")
	}
}

// TestInside: a person's own bridge and VLAN stand on hardware, those of containers do not; a tunnel is not ethernet.
func TestInside(t *testing.T) {
	sys := t.TempDir()
	for name, link := range map[string]struct{ kind, below string }{
		"lo": {"772", ""}, "eth0": {"1", "device"}, "veth1": {"1", ""}, "tun0": {"65534", ""}, "gone": {"", ""},
		"docker0": {"1", "lower_veth1"}, "lan": {"1", "lower_bond0"}, "bond0": {"1", "lower_eth0"},
		"eth0.5": {"1", "lower_eth0"}, "empty": {"1", ""},
	} {
		dir := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Join(dir, link.below), 0o755); err != nil {
			t.Fatal(err)
		}
		if link.kind == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "type"), []byte(link.kind+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{
		"lo": false, "eth0": false, "veth1": true, "tun0": false, "gone": false, "docker0": true, "lan": false,
		"bond0": false, "eth0.5": false, "empty": true,
	} {
		if got := inside(sys, name); got != want {
			t.Errorf("inside(%s) = %t, want %t", name, got, want)
		}
	}
}
