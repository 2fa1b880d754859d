package delegation

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/link"
)

// metric is that of the routes of what is not given to any link: the last of all, so that a network that is the whole
// prefix is reached while its link is up.
const metric = 1<<31 - 1

// step is one change of the kernel's routes.
type step struct {
	add    bool
	prefix netip.Prefix
}

// String returns the step as one line.
func (s step) String() string {
	return map[bool]string{false: "remove", true: "put"}[s.add] + " route unreachable " + s.prefix.String()
}

// routes plans the routes that keep packets for networks that no link has from going back to the server's side, which
// would send them here again (RFC 7084, WPD-5).
func routes(wanted, actual []netip.Prefix) (steps []step) {
	for _, p := range actual {
		if !slices.Contains(wanted, p) {
			steps = append(steps, step{false, p})
		}
	}
	for _, p := range wanted {
		if !slices.Contains(actual, p) {
			steps = append(steps, step{true, p})
		}
	}
	return steps
}

// observe returns those of these routes that the kernel has.
func observe() (out []netip.Prefix, err error) {
	filter := &netlink.Route{Type: unix.RTN_UNREACHABLE, Protocol: link.Protocol, Table: unix.RT_TABLE_MAIN}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V6, filter,
		netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes of delegated prefixes: %w", err)
	}
	for _, r := range list {
		if r.Dst == nil || r.Priority != metric {
			continue
		}
		if p, err := netip.ParsePrefix(r.Dst.String()); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

func apply(s step) error {
	r := &netlink.Route{Type: unix.RTN_UNREACHABLE, Protocol: link.Protocol, Table: unix.RT_TABLE_MAIN,
		Priority: metric, Dst: &net.IPNet{IP: s.prefix.Addr().AsSlice(), Mask: net.CIDRMask(s.prefix.Bits(), 128)}}
	err := error(nil)
	if s.add {
		err = netlink.RouteReplace(r)
	} else if err = netlink.RouteDel(r); errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// networks returns those of IPv6 that links have, but for the links named, and that are no link-local ones.
func networks(but []string) (out []netip.Prefix, err error) {
	skipped := map[int]bool{}
	for _, name := range but {
		if l, err := net.InterfaceByName(name); err == nil {
			skipped[l.Index] = true
		}
	}
	list, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	for _, a := range list {
		p, fault := netip.ParsePrefix(a.IPNet.String())
		if fault == nil && !skipped[a.LinkIndex] && p.Addr().IsGlobalUnicast() && p.Bits() >= 48 {
			out = append(out, p)
		}
	}
	return out, err
}
