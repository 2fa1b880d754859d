package sharing

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Addresses returns those of IPv4 on a link, and on all others.
func Addresses(index int) (own, others []netip.Prefix) {
	list, _ := netlink.AddrList(nil, netlink.FAMILY_V4) // what could be read counts
	for _, a := range list {
		p, err := netip.ParsePrefix(a.IPNet.String())
		switch {
		case err != nil:
		case a.LinkIndex == index:
			own = append(own, p)
		default:
			others = append(others, p)
		}
	}
	return own, others
}
