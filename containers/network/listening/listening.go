// Package listening finds the ports that programs of the device have open. Read Ports first.
package listening

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Listener is a port that a program of the device has open.
type Listener struct {
	Protocol string
	Address  netip.Addr
	Port     uint16
	Who      string
}

// standing are ports of the device that may be closed at the moment but belong to it.
var standing = []struct {
	protocol string
	port     uint16
	who      string
}{
	{"tcp", 22222, "ssh"},
}

// Ports returns the ports that programs of the device have open. It finds out which program has a port only for the
// ports for which wanted returns true.
func Ports(wanted func(protocol string, port uint16) bool) []Listener {
	var out []Listener
	for _, s := range standing {
		out = append(out, Listener{Protocol: s.protocol, Address: netip.IPv4Unspecified(), Port: s.port, Who: s.who})
	}
	for _, file := range []struct{ name, protocol, state string }{
		{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
	} {
		data, err := os.ReadFile("/proc/thread-self/net/" + file.name)
		if err != nil {
			continue // a kernel without IPv6
		}
		for line := range strings.Lines(string(data)) {
			l, inode, ok := parseListener(line, file.state)
			if l.Protocol = file.protocol; ok && wanted(l.Protocol, l.Port) {
				l.Who = owner(inode)
				out = append(out, l)
			}
		}
	}
	return out
}

// parseListener reads a line of /proc/net/tcp and similar files: number, local address, remote address, state, …,
// inode.
func parseListener(line, state string) (l Listener, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != state {
		return l, "", false
	}
	text, port, _ := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(text) != 8 && len(text) != 32 {
		return l, "", false
	}
	var raw []byte
	for i := 0; i < len(text); i += 8 {
		word, err := strconv.ParseUint(text[i:i+8], 16, 32)
		if err != nil {
			return l, "", false
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	l.Address, _ = netip.AddrFromSlice(raw) // 4 or 16 bytes
	l.Port = uint16(n)
	return l, f[9], true
}

// owner returns the name of the program that has the socket.
func owner(inode string) string {
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "a program"
	}
	for _, file := range files {
		if to, err := os.Readlink(file); err != nil || to != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(file))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("program %s (process %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return "a program"
}
