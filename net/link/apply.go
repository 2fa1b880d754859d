package link

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"resinos/services/sysctl"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply carries the steps out in order and continues after a failure, so that one refused route does not cost the
// address. Doing a step twice gives the same result. The error joins the failures, one line for each step.
func Apply(steps []Step) error {
	var faults []error
	for _, s := range steps {
		if err := apply(s); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", s, err))
		}
	}
	return errors.Join(faults...)
}

func apply(s Step) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: s.Index, Name: s.Link}}
	switch s.Verb {
	case SetHardware:
		return setHardware(l, s.Text)
	case SetMaster:
		return setMaster(l, s.Master)
	case SetIPv6:
		return sysctl.Set(ipv6Key(s.Link, s.Setting.Name), s.Setting.Value)
	case SetUp:
		return netlink.LinkSetUp(l)
	case SetMTU:
		return netlink.LinkSetMTU(l, s.MTU)
	case SetSkipsDown:
		return sysctl.Set(skipsDownKey(s.Link), "1")
	case PutAddress:
		return putAddress(s.Index, s.Address)
	case RemoveAddress:
		return unless(netlink.AddrDel(l, &netlink.Addr{IPNet: netOf(s.Address.Prefix)}), unix.EADDRNOTAVAIL)
	case PutRoute:
		return netlink.RouteReplace(routeFor(s.Index, s.Route))
	case RemoveRoute:
		// The kernel removes a route together with its source address.
		return unless(netlink.RouteDel(routeFor(s.Index, s.Route)), unix.ESRCH)
	}
	return fmt.Errorf("no such verb")
}

// unless drops the one error that means that the work is done already.
func unless(err error, done unix.Errno) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

func routeFor(index int, r Route) *netlink.Route {
	out := &netlink.Route{
		LinkIndex: index,
		Dst:       netOf(r.Destination),
		Priority:  r.Metric,
		Protocol:  Protocol,
		Table:     cmp.Or(r.Table, unix.RT_TABLE_MAIN),
		Tos:       r.TOS,
		MTULock:   r.Tuning.MTULock,
		Window:    r.Tuning.Window,
		AdvMSS:    r.Tuning.AdvMSS,
		InitCwnd:  r.Tuning.InitCwnd,
		InitRwnd:  r.Tuning.InitRwnd,
		RtoMin:    r.Tuning.RTOMin,
		QuickACK:  r.Tuning.QuickACK,
		Type:      unix.RTN_UNICAST,
		MTU:       r.MTU,
		Scope:     netlink.SCOPE_LINK,
	}
	if r.Destination.Addr().Is6() {
		out.Scope = netlink.SCOPE_UNIVERSE // IPv6 routes have no scope
	}
	if r.Source.IsValid() {
		out.Src = r.Source.AsSlice()
	}
	if r.Gateway.IsValid() {
		out.Gw = r.Gateway.AsSlice()
		out.Scope = netlink.SCOPE_UNIVERSE
	}
	if r.OnLink {
		out.Flags = unix.RTNH_F_ONLINK
	}
	return out
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// skipsDownKey is the setting of a link that has no carrier: its routes do not count.
func skipsDownKey(name string) string {
	return filepath.Join("net/ipv4/conf", filepath.Base(name), "ignore_routes_with_linkdown")
}

// setHardware changes the hardware address. Most drivers refuse that while the link is up.
func setHardware(l netlink.Link, text string) error {
	hardware, err := net.ParseMAC(text)
	if err != nil {
		return err
	}
	err = netlink.LinkSetHardwareAddr(l, hardware)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetHardwareAddr(l, hardware), netlink.LinkSetUp(l))
}

// ipv6Settings are the kernel's settings of IPv6 that profiles change.
var ipv6Settings = []string{"disable_ipv6", "accept_ra", "autoconf", "accept_ra_defrtr", "ra_defrtr_metric",
	stableSecret, "addr_gen_mode", "use_tempaddr", "mtu", "dad_transmits"}

// stableSecret is the setting from which the kernel makes stable private addresses. No step shows its value.
const stableSecret = "stable_secret"

func ipv6Key(name, setting string) string {
	return filepath.Join("net/ipv6/conf", filepath.Base(name), filepath.Base(setting))
}

// setMaster makes the link part of another one. A bond takes no link that is up.
func setMaster(l netlink.Link, master int) error {
	err := netlink.LinkSetMasterByIndex(l, master)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMasterByIndex(l, master), netlink.LinkSetUp(l))
}
