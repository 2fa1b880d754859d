// Package hostname owns the rules for names of hosts: of this device, of servers, of domains.
//
// All that judge a name, whether the owner wrote it or the network sent it, ask here, so that no name passes one and stops the
// next. Nothing that passes has a meaning to a shell, to resolv.conf or to a terminal. Read Valid first.
package hostname

import (
	"net/netip"
	"strings"
)

const (
	// MaxName is the most bytes of a name, MaxLabel of one of its parts (RFC 1035, section 2.3.4).
	MaxName  = 253
	MaxLabel = 63
)

// Valid reports whether s is the name of a host or domain: labels of letters, digits and inner hyphens or underscores, with dots
// between them, and no IPv4 address. Underscores are in no host name of RFC 1123, but in the domains of many networks.
func Valid(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > MaxLabel || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	_, err := netip.ParseAddr(s)
	return err != nil
}

// ValidLabel reports whether a device may have the name s: one label of RFC 1123, section 2.1, which has no underscores, as
// everybody who is told the name must be able to take it.
func ValidLabel(s string) bool { return Valid(s) && !strings.ContainsAny(s, "._") }

// ValidServer reports whether s is a name, or an address that a packet can be sent to.
func ValidServer(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return !addr.IsUnspecified() && !addr.IsMulticast()
	}
	return Valid(s)
}

func notInLabel(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
