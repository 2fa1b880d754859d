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
		Burnt:    a.PermHWAddr.String(),
		Type:     facts.Type,
		Driver:   base(filepath.Join(dir, "device/driver")),
		Path:     path(dir),
		Master:   a.MasterIndex,
		MTU:      a.MTU,
		Own:      a.Group == Mark,
		Up:       a.RawFlags&unix.IFF_UP != 0,
		Carrier:  a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0 && a.RawFlags&unix.IFF_DORMANT == 0,
	}
}

// Observe reads one link with its addresses and our routes. The error wraps fs.ErrNotExist if there is no link
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
	flag, _ := readSetting(skipsDownKey(a.Link.Name))
	a.SkipsDown = flag == "1"
	a.IPv6 = map[string]string{}
	for _, name := range ipv6Settings {
		text, err := readSetting(ipv6Key(a.Link.Name, name))
		if err == nil || errors.Is(err, unix.EIO) { // a secret that is not set cannot be read
			a.IPv6[name] = text // without IPv6 there are none
		}
	}
	return a, nil
}

// readSetting reads one of the kernel's settings, which has one short line, with one system call: links change often.
func readSetting(key string) (string, error) {
	f, err := os.Open(filepath.Join(sysctl.Root, key))
	if err != nil {
		return "", err
	}
	defer f.Close() // nothing was written
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	return strings.TrimSpace(string(buf[:n])), err
}

func routes(nl netlink.Link) ([]Route, error) {
	filter := &netlink.Route{LinkIndex: nl.Attrs().Index, Protocol: Protocol, Table: unix.RT_TABLE_UNSPEC}
	mask := netlink.RT_FILTER_OIF | netlink.RT_FILTER_PROTOCOL | netlink.RT_FILTER_TABLE
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, mask)
	if err != nil {
		return nil, err
	}
	var out []Route
	for _, r := range list {
		destination := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Family == unix.AF_INET6 {
			destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if r.Dst != nil {
			prefix, ok := prefixOf(r.Dst)
			if !ok {
				continue
			}
			destination = prefix
		}
		one := Route{
			Destination: destination, Gateway: addrOf(r.Gw), Source: addrOf(r.Src),
			Metric: r.Priority, OnLink: r.Flags&unix.RTNH_F_ONLINK != 0, MTU: r.MTU, Table: r.Table, TOS: r.Tos,
			Tuning: Tuning{r.Window, r.AdvMSS, r.InitCwnd, r.InitRwnd, r.RtoMin, r.QuickACK, r.MTULock},
		}
		if one.Table == unix.RT_TABLE_MAIN {
			one.Table = 0
		}
		out = append(out, one)
	}
	return out, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr := addrOf(n.IP)
	bits, size := n.Mask.Size()
	if !addr.IsValid() || size != addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, bits), true
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// base returns the last part of what a link of the file system points to, or "".
func base(link string) string {
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// path returns the place of the device, in the words of udev: "pci-0000:00:02.0". USB and other buses come as the
// kernel names them, as in "usb-1-1:1.0".
func path(dir string) string {
	name, bus := base(filepath.Join(dir, "device")), base(filepath.Join(dir, "device/subsystem"))
	if bus == "virtio" { // the card is the device above
		name, bus = base(filepath.Join(dir, "device/..")), "pci"
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, "device/..")); err == nil {
			name = filepath.Base(target)
		}
	}
	if name == "" || bus == "" {
		return ""
	}
	return bus + "-" + name
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
