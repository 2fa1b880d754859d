// Package hostname owns the rules for host names: of this device, of servers, of domains.
//
// Everything that checks a name, from the owner or from the network, uses this package, so that no name is accepted in
// one place and refused in the next. No valid name has a meaning to a shell, to resolv.conf or to a terminal. Read
// Valid first.
package hostname

import (
	"net/netip"
	"strings"
)

const (
	// MaxName is the largest number of bytes in a name, MaxLabel in one of its parts (RFC 1035, section 2.3.4).
	MaxName  = 253
	MaxLabel = 63
)

// Valid reports whether s is the name of a host or domain: labels of letters, digits and inner hyphens or underscores,
// joined by dots, and not an IPv4 address. RFC 1123 allows no underscores in host names, but the domains of many
// networks have them.
func Valid(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > MaxLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// ValidLabel reports whether a device may have the name s: one label of RFC 1123, section 2.1, without underscores,
// because everybody who gets the name must be able to use it.
func ValidLabel(s string) bool { return Valid(s) && !strings.ContainsAny(s, "._") }

// ValidServer reports whether s is a name, or an address to which a packet can be sent.
func ValidServer(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return !addr.IsUnspecified() && !addr.IsMulticast()
	}
	return Valid(s)
}

func notInLabel(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
