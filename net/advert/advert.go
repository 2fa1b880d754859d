// Package advert owns router advertisements (RFC 4861): what the device says as the IPv6 router of a shared link, and
// the settings of the kernel that make it a router without making its other links less than hosts.
//
// It never sets an address or a route (netd does) and gives no address out: guests make theirs from the prefix. Read
// first: Router, then Server.
package advert

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
)

// Router is what the guests of a link are told. Its zero value is a router that leaves.
type Router struct {
	Hardware net.HardwareAddr // of the link
	Prefixes []netip.Prefix   // of 64 bits each: guests make their addresses from these
	Servers  []netip.Addr     // of names (RFC 8106)
	Default  bool             // guests may send what is for the world to the device
}

// The lifetimes that guests are told, and how often. RFC 8106 wants that of servers to outlive three messages.
const (
	routerLife    = 30 * time.Minute
	preferredLife = 30 * time.Minute
	validLife     = time.Hour
	serverLife    = 30 * time.Minute
	interval      = 5 * time.Minute
)

// The numbers of RFC 4861 and 8106.
const (
	solicitation      = 133
	advertisement     = 134
	optSource         = 1
	optPrefix         = 3
	optServers        = 25
	hopLimit          = 64
	onLink, automatic = 0x80, 0x40 // flags of a prefix
)

// Message returns the advertisement as ICMPv6 has it; the kernel fills in the checksum. gone are prefixes that guests
// must not use for anything new.
func (r Router) Message(gone []netip.Prefix) []byte {
	p := []byte{advertisement, 0, 0, 0, hopLimit, 0}
	life := time.Duration(0)
	if r.Default {
		life = routerLife
	}
	p = binary.BigEndian.AppendUint16(p, uint16(life/time.Second))
	p = append(p, make([]byte, 8)...) // reachable time and retransmission: not said
	if len(r.Hardware) == 6 {
		p = append(append(p, optSource, 1), r.Hardware...)
	}
	for _, one := range r.Prefixes {
		p = prefix(p, one, validLife, preferredLife)
	}
	for _, one := range gone {
		p = prefix(p, one, 2*time.Hour, 0) // RFC 4862 lets nobody take away the last two hours
	}
	if len(r.Servers) > 0 {
		p = append(p, optServers, byte(1+2*len(r.Servers)), 0, 0)
		p = binary.BigEndian.AppendUint32(p, uint32(serverLife/time.Second))
		for _, s := range r.Servers {
			p = append(p, s.AsSlice()...)
		}
	}
	return p
}

func prefix(p []byte, one netip.Prefix, valid, preferred time.Duration) []byte {
	p = append(p, optPrefix, 4, byte(one.Bits()), onLink|automatic)
	p = binary.BigEndian.AppendUint32(p, uint32(valid/time.Second))
	p = binary.BigEndian.AppendUint32(p, uint32(preferred/time.Second))
	p = append(p, 0, 0, 0, 0)
	return append(p, one.Masked().Addr().AsSlice()...)
}

// asks reports whether a message, whose packet came with this hop limit, is a valid router solicitation: nobody beyond
// the link could have sent it.
func asks(p []byte, hops int) bool {
	if len(p) < 8 || p[0] != solicitation || p[1] != 0 || hops != 255 {
		return false
	}
	for rest := p[8:]; len(rest) > 0; {
		if len(rest) < 8 || rest[1] == 0 || int(rest[1])*8 > len(rest) {
			return false
		}
		rest = rest[int(rest[1])*8:]
	}
	return true
}
