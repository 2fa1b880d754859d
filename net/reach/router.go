package reach

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouterGateways returns the gateways of the default routes that the kernel has taken from router advertisements on a
// link.
func RouterGateways(index int) ([]netip.Addr, error) {
	filter := &netlink.Route{LinkIndex: index, Protocol: unix.RTPROT_RA}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V6, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes of link %d: %w", index, err)
	}
	var out []netip.Addr
	for _, r := range list {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{Gw: r.Gw}) {
			if a, is := netip.AddrFromSlice(hop.Gw); is {
				out = append(out, a.Unmap())
			}
		}
	}
	return out, nil
}
