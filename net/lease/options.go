package lease

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"resinos/services/hostname"
)

// The limits on what one reply can make us store. A packet has at most maxPacket bytes, so none of the decoders below
// can be made to run for long; these limits keep their results small.
const (
	maxServers = 4  // of each kind: routers, name servers, time servers
	maxRoutes  = 32 // classless routes
	maxDomains = 8  // names in the search list
)

// addresses decodes a list of IPv4 addresses and returns the usable ones, at most maxServers. If the number of bytes is
// not a multiple of four (RFC 2132), the whole list is unusable.
func addresses(raw []byte) []netip.Addr {
	if len(raw)%4 != 0 {
		return nil
	}
	var out []netip.Addr
	for ; len(raw) >= 4 && len(out) < maxServers; raw = raw[4:] {
		a := netip.AddrFrom4([4]byte(raw))
		if usable(a) && !contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// address decodes one usable address.
func address(raw []byte) (netip.Addr, bool) {
	if len(raw) != 4 {
		return netip.Addr{}, false
	}
	a := netip.AddrFrom4([4]byte(raw))
	return a, usable(a)
}

// usable reports whether a can be one host on a network. A server that names our own loopback as name server or router
// would direct us to ourselves.
func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsLoopback() && !a.IsMulticast() && a.As4()[0] != 0 && a.As4()[0] < 240
}

func contains(list []netip.Addr, a netip.Addr) bool {
	for _, have := range list {
		if have == a {
			return true
		}
	}
	return false
}

// seconds decodes a 32-bit number of seconds.
func seconds(raw []byte) (time.Duration, bool) {
	if len(raw) != 4 {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint32(raw)) * time.Second, true
}

// prefixLength decodes a subnet mask. It refuses a mask with holes and one wider than /8: no network that gives out
// addresses is that large, and such a mask would put half the internet on the link.
func prefixLength(raw []byte) (int, bool) {
	if len(raw) != 4 {
		return 0, false
	}
	mask := binary.BigEndian.Uint32(raw)
	bits := 0
	for ; mask&(1<<31) != 0; mask <<= 1 {
		bits++
	}
	return bits, mask == 0 && bits >= 8
}

// classLength returns the prefix length for an address whose server sent no usable mask (RFC 791 classes).
func classLength(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	default:
		return 24
	}
}

// classlessRoutes decodes option 121 (RFC 3442): prefix length, the octets of the destination that it covers, and the
// gateway. refused counts the routes that are left out: to loopback, multicast or reserved destinations; wider than /8
// other than the default route (two routes to /1 would take all traffic from a longer default); and those beyond
// maxRoutes. If the list is incomplete, ok is false and none of it is used.
func classlessRoutes(raw []byte) (routes []Route, refused int, ok bool) {
	for len(raw) > 0 {
		bits := int(raw[0])
		octets := (bits + 7) / 8
		if bits > 32 || len(raw) < 1+octets+4 {
			return nil, 0, false
		}
		var dst [4]byte
		copy(dst[:], raw[1:1+octets])
		gateway := netip.AddrFrom4([4]byte(raw[1+octets:]))
		raw = raw[1+octets+4:]
		r := Route{Destination: netip.PrefixFrom(netip.AddrFrom4(dst), bits).Masked(), Gateway: gateway}
		if len(routes) == maxRoutes || !acceptable(r) {
			refused++
			continue
		}
		routes = append(routes, r)
	}
	return routes, refused, true
}

func acceptable(r Route) bool {
	if !usable(r.Gateway) && !r.Gateway.IsUnspecified() {
		return false
	}
	if r.Destination.Bits() == 0 {
		return !r.Gateway.IsUnspecified()
	}
	return r.Destination.Bits() >= 8 && usable(r.Destination.Addr())
}

// searchList decodes option 119 (RFC 3397): domain names with compression pointers into the option itself. A pointer
// must point before the name that it is part of, so that no name is read twice, and each name ends at hostname.MaxName
// bytes. Names that are not host names are left out.
func searchList(raw []byte) []string {
	var out []string
	for at := 0; at < len(raw) && len(out) < maxDomains; {
		name, next, ok := domainName(raw, at)
		if !ok {
			return out
		}
		if hostname.Valid(name) && !containsName(out, name) {
			out = append(out, name)
		}
		at = next
	}
	return out
}

// domainName decodes the name at offset at, and returns the offset of the next one.
func domainName(raw []byte, at int) (name string, next int, ok bool) {
	var b strings.Builder
	limit := at // pointers must point below it; it decreases with each jump, so the loop ends
	for at < len(raw) {
		length := int(raw[at])
		switch {
		case length == 0:
			return b.String(), max(next, at+1), true
		case length&0xc0 == 0xc0:
			if at+1 >= len(raw) {
				return "", 0, false
			}
			if next == 0 {
				next = at + 2
			}
			at = (length&0x3f)<<8 | int(raw[at+1])
			if at >= limit {
				return "", 0, false
			}
			limit = at
		case length > hostname.MaxLabel || at+1+length > len(raw) || b.Len()+1+length > hostname.MaxName:
			return "", 0, false
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.Write(raw[at+1 : at+1+length])
			at += 1 + length
		}
	}
	return "", 0, false
}

func containsName(list []string, name string) bool {
	for _, have := range list {
		if strings.EqualFold(have, name) {
			return true
		}
	}
	return false
}

// text decodes a string option: servers end it with NUL or a dot, though they should not.
func text(raw []byte) string {
	return strings.TrimSuffix(strings.TrimRight(string(raw), "\x00"), ".")
}
