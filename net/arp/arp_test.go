package arp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	ourHardware   = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	otherHardware = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}
	granted       = netip.MustParseAddr("10.9.0.50")
)

// arpCases are what a station may say, and whether it is a conflict.
var arpCases = []struct {
	name   string
	packet []byte
	want   bool
}{
	{"it asks with the address", arpRequest(otherHardware, granted, netip.MustParseAddr("10.9.0.1")), true},
	{"it announces the address", arpRequest(otherHardware, granted, granted), true},
	{"it answers with the address", reply(arpRequest(otherHardware, granted, netip.IPv4Unspecified())), true},
	{"it probes for the address", arpRequest(otherHardware, netip.IPv4Unspecified(), granted), true},
	{"it asks who has the address", arpRequest(otherHardware, netip.MustParseAddr("10.9.0.1"), granted), false},
	{"it probes for another", arpRequest(otherHardware, netip.IPv4Unspecified(), netip.MustParseAddr("10.9.0.1")),
		false},
	{"it has another", arpRequest(otherHardware, netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.1")),
		false},
	{"our own probe comes back", arpRequest(ourHardware, netip.IPv4Unspecified(), granted), false},
	{"our own announcement comes back", arpRequest(ourHardware, granted, granted), false},
	{"half like us", arpRequest(append(bytes.Clone(ourHardware[:4]), 9, 9), granted, granted), true},
	{"cut", arpRequest(otherHardware, granted, granted)[:20], false},
	{"nothing", nil, false},
}

func reply(p []byte) []byte { p[arpOperation+1] = 2; return p }

// TestClaims: the kernel's filter and what we check ourselves agree. A datagram between two local sockets is filtered
// as one from a link.
func TestClaims(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if err := attach(fds[1], claims(ourHardware, granted)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range arpCases {
		if got := claimant(tt.packet, ourHardware, granted) != nil; got != tt.want {
			t.Errorf("%s: conflict %t, want %t", tt.name, got, tt.want)
		}
		if len(tt.packet) < arpSize {
			continue // the filter need not know
		}
		_ = unix.Send(fds[0], tt.packet, 0) // what is filtered out is an error to some kernels
		n, err := unix.Read(fds[1], make([]byte, 100))
		if (err == nil && n == arpSize) != tt.want {
			t.Errorf("%s: the filter gives %d bytes, %v; want %t", tt.name, n, err, tt.want)
		}
	}
	odd := arpRequest(otherHardware, granted, granted)
	odd[1] = 6 // not ethernet
	if claimant(odd, ourHardware, granted) != nil {
		t.Error("a packet of another kind of link is read")
	}
}

func FuzzClaimant(f *testing.F) {
	for _, tt := range arpCases {
		f.Add(tt.packet)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if who := claimant(p, ourHardware, granted); who != nil && (len(who) != 6 || bytes.Equal(who, ourHardware)) {
			t.Fatalf("claimed by %v", who)
		}
	})
}
