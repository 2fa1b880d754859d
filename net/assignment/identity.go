package assignment

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"net"
	"strconv"
	"strings"

	"resinos/net/clientidentity"
	"resinos/net/keyvalue"
	"resinos/net/link"
	"resinos/net/profile"
)

// Identity returns how the DHCP client of a link presents itself because of its profile; p is nil if there is none.
func Identity(p *profile.Profile, l link.Link) clientidentity.Identity {
	if p == nil || p.IPv4 == nil {
		return clientidentity.Identity{}
	}
	ip := p.IPv4
	i := clientidentity.Identity{Vendor: []byte(unescaped(ip.VendorClass)), Unchecked: ip.DADTimeout == 0}
	i.ClientID, i.Anonymous = clientID(*p, l)
	if ip.SendHostname && ip.FQDN != "" {
		i.FQDN, i.FQDNFlags = strings.TrimSuffix(ip.FQDN, "."), fqdnFlags(ip.HostnameFlag)
	}
	for _, text := range ip.Rejected {
		if n, ok := keyvalue.Network(text); ok {
			i.Refused = append(i.Refused, n.Masked())
		}
	}
	return i
}

// fqdnFlags returns the flags of option 81 for those of dhcp-hostname-flags: 1 the server updates the DNS, 2 the name
// is encoded, 4 nobody updates it, 8 none of these instead of the usual ones.
func fqdnFlags(flags int64) (out byte) {
	if flags == 0 {
		return clientidentity.FQDNServerUpdates | clientidentity.FQDNEncoded
	}
	for bit, flag := range []byte{
		clientidentity.FQDNServerUpdates, clientidentity.FQDNEncoded, clientidentity.FQDNNoUpdate,
	} {
		if flags&(1<<bit) != 0 {
			out |= flag
		}
	}
	return out
}

// clientID returns what dhcp-client-id says: bytes, nil for the hardware address, or that none is sent.
func clientID(p profile.Profile, l link.Link) (id []byte, none bool) {
	switch text := p.IPv4.ClientID; text {
	case "", "mac":
		return nil, false
	case "none":
		return nil, true
	case "perm-mac":
		mac, _ := net.ParseMAC(cmp.Or(l.Burnt, l.Hardware)) // the kernel wrote it
		return append([]byte{1}, mac...), false
	case "duid", "ipv6-duid": // RFC 4361, with a DUID of the hardware address (RFC 8415, 11.4)
		mac, _ := net.ParseMAC(cmp.Or(l.Burnt, l.Hardware))
		id = binary.BigEndian.AppendUint32([]byte{255}, iaid(p, l))
		return append(append(id, 0, 3, 0, 1), mac...), false
	case "stable":
		h := fnv.New64a()
		h.Write([]byte(l.Burnt + "\x00" + l.Name + "\x00" + stableID(p)))
		return h.Sum([]byte{0}), false
	default:
		// Hexadecimal numbers with colons are the bytes themselves; any other text has the type 0.
		if strings.Contains(text, ":") {
			parts := strings.Split(text, ":")
			for i, part := range parts {
				parts[i] = strings.Repeat("0", max(2-len(part), 0)) + part
			}
			if b, err := hex.DecodeString(strings.Join(parts, "")); err == nil && len(b) == len(parts) && len(b) > 1 {
				return b[:min(len(b), 255)], false
			}
		}
		return append([]byte{0}, text[:min(len(text), 254)]...), false
	}
}

// stableID is what tells profiles apart where something has to stay the same.
func stableID(p profile.Profile) string {
	return cmp.Or(p.Connection.StableID, p.Connection.UUID, p.Connection.ID)
}

// iaid returns what dhcp-iaid says: a number, or one that follows from the link.
func iaid(p profile.Profile, l link.Link) uint32 {
	text := p.IPv4.IAID
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return uint32(n)
	}
	if mac, err := net.ParseMAC(l.Hardware); err == nil && (text == "mac" || text == "perm-mac") && len(mac) == 6 {
		if burnt, err := net.ParseMAC(l.Burnt); err == nil && text == "perm-mac" && len(burnt) == 6 {
			mac = burnt
		}
		return binary.BigEndian.Uint32(mac[2:])
	}
	seed := []string{l.Name}
	if text == "stable" {
		seed = append(seed, stableID(p))
	}
	h := fnv.New32a()
	h.Write([]byte(strings.Join(seed, "\x00")))
	return h.Sum32()
}

// unescaped returns a text with escapes as in C.
func unescaped(text string) string {
	if out, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`); err == nil {
		return out
	}
	return text
}
