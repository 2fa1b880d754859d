package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"resinos/services/sysctl"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FromNetlink turns the library's link into ours, and reads below sys (as in "/sys") what netlink does not report.
func FromNetlink(sys string, l netlink.Link) Link {
	a := l.Attrs()
	dir := filepath.Join(sys, "class/net", a.Name)
	facts := Facts{
		Encap:    a.EncapType,
		Type:     l.Type(),
		Master:   a.MasterIndex,
		Device:   exists(filepath.Join(dir, "device")),
		Wireless: exists(filepath.Join(dir, "phy80211")),
		DevType:  devType(filepath.Join(dir, "uevent")),
	}
	return Link{
		Index:    a.Index,
		Name:     a.Name,
		Kind:     facts.Kind(),
		Hardware: a.HardwareAddr.String(),
		MTU:      a.MTU,
		Up:       a.RawFlags&unix.IFF_UP != 0,
		Carrier:  a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0 && a.RawFlags&unix.IFF_DORMANT == 0,
	}
}

// Observe reads one link with its IPv4 addresses and our routes. The error wraps fs.ErrNotExist if there is no link
// with that index.
func Observe(sys string, index int) (Actual, error) {
	nl, err := netlink.LinkByIndex(index)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, unix.ENODEV) {
			err = os.ErrNotExist
		}
		return Actual{}, fmt.Errorf("observe link %d: %w", index, err)
	}
	a := Actual{Link: FromNetlink(sys, nl)}
	if a.Addresses, err = addresses(index); err != nil {
		return a, fmt.Errorf("list addresses of %s: %w", a.Link.Name, err)
	}
	if a.Routes, err = routes(nl); err != nil {
		return a, fmt.Errorf("list routes of %s: %w", a.Link.Name, err)
	}
	// If the kernel lacks the switch, "off" is read, and setting it is a step that may fail.
	flag, _ := os.ReadFile(filepath.Join(sysctl.Root, skipsDownKey(a.Link.Name)))
	a.SkipsDown = strings.TrimSpace(string(flag)) == "1"
	return a, nil
}

func routes(nl netlink.Link) ([]Route, error) {
	filter := &netlink.Route{LinkIndex: nl.Attrs().Index, Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	mask := netlink.RT_FILTER_OIF | netlink.RT_FILTER_PROTOCOL | netlink.RT_FILTER_TABLE
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, mask)
	if err != nil {
		return nil, err
	}
	var out []Route
	for _, r := range list {
		destination := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Dst != nil {
			prefix, ok := prefixOf(r.Dst)
			if !ok {
				continue
			}
			destination = prefix
		}
		gateway, _ := netip.AddrFromSlice(r.Gw.To4())
		source, _ := netip.AddrFromSlice(r.Src.To4())
		out = append(out, Route{
			Destination: destination, Gateway: gateway, Source: source,
			Metric: r.Priority, OnLink: r.Flags&unix.RTNH_F_ONLINK != 0, MTU: r.MTU,
		})
	}
	return out, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	bits, size := n.Mask.Size()
	if !ok || size != 32 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, bits), true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// devType returns the value of DEVTYPE in a uevent file, or "" if there is none.
func devType(path string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "DEVTYPE="); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
