package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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
		b.Gateway, netlink.FAMILY_V4)); err != nil {
		return err
	}
	err = errors.Join(applySix(l, b), sysctl.Set("net/ipv4/conf/"+b.Link+"/route_localnet", "1"),
		sysctl.Set("net/ipv4/ip_forward", "1"))
	return errors.Join(err, netlink.LinkSetUp(l))
}

// applySix gives the bridge its address of IPv6. A network without one must not have any: it would give access to the
// device, and to what it reaches, past the rules.
func applySix(l netlink.Link, b Bridge) error {
	settings := "net/ipv6/conf/" + b.Link + "/"
	if !b.Gateway6.IsValid() {
		err := sysctl.Set(settings+"disable_ipv6", "1")
		if errors.Is(err, os.ErrNotExist) {
			return nil // the kernel has none
		}
		return err
	}
	if err := sysctl.Set(settings+"disable_ipv6", "0"); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the kernel has no IPv6: remove enable_ipv6 of network %s", b.Network)
	}
	return errors.Join(sysctl.Set(settings+"accept_ra", "0"), applyGateway(l, b.Gateway6, netlink.FAMILY_V6),
		forwardSix())
}

// forwardSix has the kernel forward packets of IPv6. As a router a device would no longer take addresses and routes
// from others, and would drop those that it has: its links stay hosts, and only the setting for all of them counts for
// packets that are forwarded.
func forwardSix() error {
	if on, err := os.ReadFile(sixSettings + "/all/forwarding"); err == nil && strings.TrimSpace(string(on)) == "1" {
		return nil
	}
	list, err := os.ReadDir(sixSettings)
	if err != nil {
		return err
	}
	was := map[string]string{}
	for _, e := range list {
		value, err := os.ReadFile(filepath.Join(sixSettings, e.Name(), "accept_ra"))
		if err == nil && strings.TrimSpace(string(value)) == "1" && e.Name() != "all" {
			was[e.Name()] = "1"
			err = sysctl.Set("net/ipv6/conf/"+e.Name()+"/accept_ra", "2") // 2 keeps the routes
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	err = sysctl.Set("net/ipv6/conf/all/forwarding", "1")
	for _, e := range list {
		if e.Name() == "all" {
			continue
		}
		one := sysctl.Set("net/ipv6/conf/"+e.Name()+"/forwarding", "0")
		if value := was[e.Name()]; value != "" {
			one = errors.Join(one, sysctl.Set("net/ipv6/conf/"+e.Name()+"/accept_ra", value))
		}
		if !errors.Is(one, os.ErrNotExist) { // it left meanwhile
			err = errors.Join(err, one)
		}
	}
	return err
}

const sixSettings = "/proc/sys/net/ipv6/conf"

func applyMTU(l netlink.Link, mtu int) error {
	if mtu == 0 || l.Attrs().MTU == mtu {
		return nil
	}
	return netlink.LinkSetMTU(l, mtu)
}

func applyGateway(l netlink.Link, want netip.Prefix, family int) error {
	list, err := netlink.AddrList(l, family)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	found := false
	for _, a := range list {
		if a.IPNet.String() == want.String() {
			found = true
			continue
		}
		if a.IP.IsLinkLocalUnicast() && family == netlink.FAMILY_V6 {
			continue // neighbours need it
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if found {
		return nil
	}
	if err := netlink.AddrReplace(l, addr(want)); err != nil {
		return fmt.Errorf("add address %s: %w", want, err)
	}
	return nil
}

// addr is used at once: nobody else can have it.
func addr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
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
	err = errors.Join(h.LinkSetUp(loop), h.AddrReplace(l, addr(netip.PrefixFrom(e.Address, b.Gateway.Bits()))),
		h.LinkSetUp(l))
	if err == nil && e.Address6.IsValid() {
		err = h.AddrReplace(l, addr(netip.PrefixFrom(e.Address6, b.Gateway6.Bits())))
	}
	if err != nil {
		return fmt.Errorf("set up %s of %s: %w", e.Inside, e.Container, err)
	}
	for _, r := range []struct {
		wanted  bool
		gateway netip.Addr
	}{{e.Default, b.Gateway.Addr()}, {e.Default6, b.Gateway6.Addr()}} {
		if !r.wanted {
			continue
		}
		if err := h.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: r.gateway.AsSlice()}); err != nil {
			return fmt.Errorf("set route of %s: %w", e.Container, err)
		}
	}
	return nil
}

// routes returns the routes that are not ours, without the default route.
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
	six, err := netlink.RouteList(nil, netlink.FAMILY_V6)
	if err == nil { // otherwise the kernel has none
		list = append(list, six...)
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
