package sysctl

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// uplink makes a link whose other end is the test: what is written to it comes in.
func uplink(t *testing.T, name, address string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testenv.Lacking(t, "tun: %v", err)
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		testenv.Lacking(t, "tun: %v", err)
	}
	testenv.Run(t, "ip", "addr", "add", address, "dev", name)
	testenv.Run(t, "ip", "link", "set", name, "up")
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	return file
}

// datagram is an IPv4 packet with a UDP datagram (RFC 791, 768); a UDP checksum of zero is none.
func datagram(from, to string, port int, text string) []byte {
	b := make([]byte, 28, 28+len(text))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(text)))
	source, target := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(b[12:], source[:])
	copy(b[16:], target[:])
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(b[20:], 4321)
	binary.BigEndian.PutUint16(b[22:], uint16(port))
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(text)))
	return append(b, text...)
}

// TestSeveralUplinks: with the shipped settings, what comes in by another link than the answer goes out by is taken;
// what comes from a source that no route leads to is not.
func TestSeveralUplinks(t *testing.T) {
	testenv.NeedProgram(t, "ip")
	if !testenv.Again(t, syscall.CLONE_NEWNET) {
		return
	}
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range table {
		if strings.HasPrefix(s.Key, "net.ipv4.conf.") {
			if err := Apply(Root, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	uplink(t, "up0", "10.1.0.2/24")
	second := uplink(t, "up1", "10.2.0.2/24")
	testenv.Run(t, "ip", "route", "add", "default", "dev", "up0")
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(testenv.Patience()))
	port := conn.LocalAddr().(*net.UDPAddr).Port
	comes := func(from, want string) {
		t.Helper()
		for _, packet := range [][]byte{datagram(from, "10.2.0.2", port, from),
			datagram("10.2.0.9", "10.2.0.2", port, "neighbour")} {
			if _, err := second.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("from %s: first comes %q, %v, want %q", from, buf[:n], err, want)
		}
		if want != "neighbour" {
			conn.Read(buf) // it follows
		}
	}
	comes("203.0.113.5", "203.0.113.5")
	testenv.Run(t, "ip", "route", "del", "default")
	comes("203.0.113.5", "neighbour")
}
