// Package advert owns router advertisements (RFC 4861): their content, which the device sends as the IPv6 router of a
// shared link, and the settings of the kernel that make it a router there while its other links remain those of a host.
//
// It never sets an address or a route (netd does) and assigns no address: guests form theirs from the prefix. Read
// first: Router, then Server.
package advert

import (
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Router is what the guests of a link are told. Its zero value is a router that leaves.
type Router struct {
	Hardware net.HardwareAddr // of the link
	Prefixes []Prefix         // guests make their addresses from these
	Servers  []netip.Addr     // of names (RFC 8106)
	Default  bool             // guests may send what is for the world to the device
}

// Prefix is a network that guests may make addresses of. Instants are counted from kernel start.
type Prefix struct {
	Prefix    netip.Prefix  // of 64 bits
	Preferred time.Duration // until then they may use it for something new; in the past: they must not
	Valid     time.Duration // until then it reaches them
}

// Forever is the instant at which a network ends that is the device's own.
const Forever time.Duration = math.MaxInt64

// The lifetimes that guests are told, and how often: at most these, so that a network that has gone with the power is
// soon forgotten (RFC 9096, 3.4). RFC 8106 wants that of servers to outlive three messages.
const (
	routerLife    = 30 * time.Minute
	preferredLife = 30 * time.Minute
	validLife     = time.Hour
	serverLife    = 30 * time.Minute
	goneLife      = 2 * time.Hour
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
func (r Router) Message(now time.Duration, gone []netip.Prefix) []byte {
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
		if one.Valid <= now {
			gone = append(slices.Clip(gone), one.Prefix)
			continue
		}
		p = prefix(p, one.Prefix, min(one.Valid-now, validLife), min(max(one.Preferred-now, 0), preferredLife))
	}
	for _, one := range gone {
		p = prefix(p, one, goneLife, 0) // RFC 4862 lets nobody take away the last two hours
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
