package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"resinos/services/sysctl"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// aliasPrefix marks links as ours; the name of the network follows.
const aliasPrefix = "resinos network "

// ours returns the bridges that we created, by name.
func ours() (map[string]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[string]netlink.Link{}
	for _, l := range links {
		if l.Type() == "bridge" && strings.HasPrefix(l.Attrs().Alias, aliasPrefix) {
			out[l.Attrs().Name] = l
		}
	}
	return out, nil
}

// applyBridges creates the wanted bridges and removes others of ours.
func applyBridges(bridges []Bridge) error {
	there, err := ours()
	if err != nil {
		return err
	}
	for _, b := range bridges {
		delete(there, b.Link)
		if err := applyBridge(b); err != nil {
			return fmt.Errorf("set up network %s: %w", b.Network, err)
		}
	}
	for name, l := range there {
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link %s: %w", name, err)
		}
	}
	return nil
}

// applyBridge may be interrupted anywhere and repeated: the link is created together with the alias that marks it as
// ours.
func applyBridge(b Bridge) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Alias, attrs.MTU = b.Link, aliasPrefix+b.Network, b.MTU
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add bridge: %w", err)
	}
	l, err := netlink.LinkByName(b.Link)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetAlias(l, attrs.Alias), applyMTU(l, b.MTU), applyGateway(l,
		b.Gateway)); err != nil {
		return err
	}
	// IPv6 would give access to the device, and to what it reaches, past the rules. A kernel without IPv6 lacks the
	// setting.
	err = sysctl.Set("net/ipv6/conf/"+b.Link+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, sysctl.Set("net/ipv4/conf/"+b.Link+"/route_localnet", "1"),
		sysctl.Set("net/ipv4/ip_forward", "1"))
	return errors.Join(err, netlink.LinkSetUp(l))
}

func applyMTU(l netlink.Link, mtu int) error {
	if mtu == 0 || l.Attrs().MTU == mtu {
		return nil
	}
	return netlink.LinkSetMTU(l, mtu)
}

func applyGateway(l netlink.Link, want netip.Prefix) error {
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	found := false
	for _, a := range list {
		if a.IPNet.String() == want.String() {
			found = true
			continue
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ipNet(want)}); err != nil {
		return fmt.Errorf("add address %s: %w", want, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// attach connects the namespace with the bridge. It first removes what an earlier attempt left; what this one leaves is
// removed with the namespace.
func attach(b Bridge, e End, namespace netns.NsHandle) error {
	bridge, err := netlink.LinkByName(b.Link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", b.Link, err)
	}
	if old, err := netlink.LinkByName(e.Link); err == nil {
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link %s: %w", e.Link, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.MTU = e.Link, bridge.Attrs().Index, bridge.Attrs().MTU
	attrs.Alias = e.Container
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace, pair.PeerMTU = e.Inside, netlink.NsFd(int(namespace)), uint32(attrs.MTU)
	pair.PeerHardwareAddr = hardware(e.Address)
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("add link %s: %w", e.Link, err)
	}
	_ = sysctl.Set("net/ipv6/conf/"+e.Link+"/disable_ipv6", "1") // a port of the bridge: IPv6 is only noise
	// A bridge must send packets back to a container that uses its own published port.
	return errors.Join(netlink.LinkSetHairpin(pair, true), netlink.LinkSetUp(pair), inside(b, e, namespace))
}

// hardware returns a hardware address that depends only on the IP address, so that no neighbour remembers an older one.
func hardware(a netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x42}, a.AsSlice()...)
}

// inside configures the container's end.
func inside(b Bridge, e End, namespace netns.NsHandle) error {
	h, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return fmt.Errorf("enter network of %s: %w", e.Container, err)
	}
	defer h.Close()
	loop, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	l, err := h.LinkByName(e.Inside)
	if err != nil {
		return err
	}
	address := netip.PrefixFrom(e.Address, b.Gateway.Bits())
	if err := errors.Join(h.LinkSetUp(loop), h.AddrReplace(l, &netlink.Addr{IPNet: ipNet(address)}),
		h.LinkSetUp(l)); err != nil {
		return fmt.Errorf("set up %s of %s: %w", e.Inside, e.Container, err)
	}
	if !e.Default {
		return nil
	}
	if err := h.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: b.Gateway.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("set route of %s: %w", e.Container, err)
	}
	return nil
}

// routes returns the IPv4 routes that are not ours, without the default route.
func routes() ([]netip.Prefix, error) {
	own, err := ours()
	if err != nil {
		return nil, err
	}
	var indexes []int
	for _, l := range own {
		indexes = append(indexes, l.Attrs().Index)
	}
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Prefix
	for _, r := range list {
		if r.Dst == nil || slices.Contains(indexes, r.LinkIndex) {
			continue
		}
		p, err := netip.ParsePrefix(r.Dst.String())
		if err == nil && p.Bits() > 1 { // the default route may be two halves
			out = append(out, p)
		}
	}
	return out, nil
}
