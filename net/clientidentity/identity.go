// Package clientidentity owns the identity that a key file gives a DHCP client: its identifier, the vendor class, its
// full name, and which servers it refuses. It is pure. Read Identity first.
package clientidentity

import (
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/services/hostname"
)

// Identity is how a client presents itself to servers, and which of them it refuses. The zero value is the usual one.
type Identity struct {
	ClientID  []byte         // option 61; nil: the hardware address
	Anonymous bool           // option 61 is not sent at all
	Vendor    []byte         // option 60; empty: not sent
	FQDN      string         // option 81, instead of the host name; empty: not sent
	FQDNFlags byte           // of option 81; the bit FQDNEncoded says how the name is written
	Refused   []netip.Prefix // servers whose messages are ignored
	Unchecked bool           // addresses are used without asking whether somebody else has them
}

// The flags of option 81 (RFC 4702).
const (
	FQDNServerUpdates byte = 1
	FQDNEncoded       byte = 4
	FQDNNoUpdate      byte = 8
)

// Add adds the options of the identity to a message of the client with this host name; empty: it has none. A DECLINE
// gets option 61 alone (RFC 2131, table 5).
func (i Identity) Add(out *dhcpv4.DHCPv4, name string) {
	switch {
	case i.Anonymous:
	case len(i.ClientID) > 0:
		out.UpdateOption(dhcpv4.OptClientIdentifier(i.ClientID))
	default:
		out.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{1}, out.ClientHWAddr...)))
	}
	if out.MessageType() == dhcpv4.MessageTypeDecline {
		return
	}
	if len(i.Vendor) > 0 {
		out.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClassIdentifier, i.Vendor[:min(len(i.Vendor), 255)]))
	}
	switch {
	case hostname.Valid(i.FQDN):
		out.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionFQDN, append([]byte{i.FQDNFlags, 0, 0}, i.written()...)))
	case hostname.Valid(name) && name != "localhost":
		out.UpdateOption(dhcpv4.OptHostName(name))
	}
}

// written returns the name of option 81, as labels or as text.
func (i Identity) written() (b []byte) {
	if i.FQDNFlags&FQDNEncoded == 0 {
		return []byte(i.FQDN)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(i.FQDN, "."), ".") {
		b = append(append(b, byte(len(label))), label...) // a valid name has labels of 1 to 63 letters
	}
	return append(b, 0)
}

// Refuses reports whether the owner wants no messages of a server.
func (i Identity) Refuses(server netip.Addr) bool {
	for _, p := range i.Refused {
		if p.Contains(server) {
			return true
		}
	}
	return false
}
