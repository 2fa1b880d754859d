// Package delegation distributes the prefixes that DHCPv6 servers delegate to the device: it chooses the prefix that
// counts, and the network of 64 bits that each shared link gets of it.
//
// It asks no server (dhcp6 does) and informs no guest (advert does). Plan is pure. Two files keep what a restart and a
// reboot must not lose: the next netd continues with the same networks, and the next boot asks for the same prefix.
//
// Read first: Uplink, then Best and Plan, then Set.
package delegation

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"net/netip"
	"slices"

	"resinos/net/dhcp6"
	"resinos/net/netstate"
)

// Uplink is a link that a server may delegate prefixes on. Instants are counted from kernel start.
type Uplink struct {
	Link     string
	Hardware string
	Index    int
	Carrier  bool
	Metric   int         // of its default routes as they are now
	Lease    dhcp6.Lease // its prefixes; without any, none is delegated
}

// Best returns the uplink whose prefixes count: that of the best default route. If that uplink has no prefix, none
// counts, because what leaves through it must not have the addresses of another one. routed says whether a router has
// announced a default route on an uplink.
func Best(ups []Uplink, routed func(Uplink) bool) (Uplink, bool) {
	if !slices.ContainsFunc(ups, delegates) {
		return Uplink{}, false
	}
	if len(ups) > 1 { // else the kernel need not be asked
		ups = slices.DeleteFunc(slices.Clone(ups), func(u Uplink) bool {
			return !delegates(u) && !(u.Carrier && routed(u))
		})
	}
	best := ups[0]
	for _, u := range ups[1:] {
		if u.Metric < best.Metric || u.Metric == best.Metric && u.Link < best.Link {
			best = u
		}
	}
	return best, delegates(best)
}

func delegates(u Uplink) bool { return len(u.Lease.Prefixes) > 0 }

// Number returns which of the networks of its uplinks each shared link gets, counted from 0. A link keeps the number
// that it had; the others get the lowest ones that are free, in the order of their names.
func Number(had map[string]int, links []string) map[string]int {
	out, used := map[string]int{}, map[int]bool{}
	links = slices.Sorted(slices.Values(links))
	for _, l := range links {
		if n, known := had[l]; known && n >= 0 && n < maxNumber && !used[n] {
			out[l], used[n] = n, true
		}
	}
	next := 0
	for _, l := range links {
		if _, has := out[l]; has {
			continue
		}
		for used[next] {
			next++
		}
		out[l], used[next] = next, true
	}
	return out
}

const maxNumber = 1 << 16

// Plan returns the networks of each shared link, by its name. numbers are those of Number; taken are the networks of
// other links, which no shared link gets: some servers delegate a prefix of which their own link is a part. A link
// whose number is beyond a prefix gets a free network of it, if one is left.
func Plan(l dhcp6.Lease, numbers map[string]int, taken []netip.Prefix) map[string][]netstate.Network {
	out := map[string][]netstate.Network{}
	for _, p := range l.Prefixes {
		for link, prefix := range split(p.Prefix, numbers, taken) {
			out[link] = append(out[link],
				netstate.Network{Prefix: prefix, Preferred: l.Bound + p.Preferred, Valid: l.Bound + p.Valid})
		}
	}
	return out
}

// split gives each link a network of a prefix.
func split(p netip.Prefix, numbers map[string]int, taken []netip.Prefix) map[string]netip.Prefix {
	room := 1 << min(length-p.Bits(), 16)
	out, used := map[string]netip.Prefix{}, map[int]bool{}
	free := func(n int) bool {
		return n < room && !used[n] && !slices.ContainsFunc(taken, nth(p, n).Overlaps)
	}
	var rest []string
	for _, link := range slices.Sorted(maps.Keys(numbers)) {
		if n := numbers[link]; free(n) {
			out[link], used[n] = nth(p, n), true
		} else {
			rest = append(rest, link)
		}
	}
	next := 0
	for _, link := range rest {
		for next < room && !free(next) {
			next++
		}
		if next == room {
			break
		}
		out[link], used[next] = nth(p, next), true
	}
	return out
}

// length is that of the networks of which guests make addresses.
const length = 64

// nth returns one of the networks of a prefix.
func nth(p netip.Prefix, n int) netip.Prefix {
	a := p.Masked().Addr().As16()
	binary.BigEndian.PutUint64(a[:], binary.BigEndian.Uint64(a[:])+uint64(n))
	return netip.PrefixFrom(netip.AddrFrom16(a), length)
}

// Wish returns what a server is asked for: the prefix that it gave last, if that has room for all shared links, or a
// length that has; one network is what servers give anyway.
func Wish(last []netip.Prefix, links int) netip.Prefix {
	need := length - bits.Len(uint(max(links, 1)-1))
	for _, p := range last {
		if p.Bits() <= need {
			return p
		}
	}
	if need == length {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), need)
}
