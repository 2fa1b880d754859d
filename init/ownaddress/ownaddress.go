// Package ownaddress lists the addresses by which people reach the device: those of its own links. It leaves out
// link-local addresses and those of networks that only containers of the device are in, because nobody reaches the
// device by them. It asks the kernel at each call and keeps nothing. Read Read first.
package ownaddress

import (
	"net"
	"net/netip"
	"strings"
)

// Read returns the addresses, those of IPv4 first, each kind in the order of the links. What the kernel does not tell
// is left out.
func Read() []netip.Addr {
	links, _ := net.Interfaces() // none: the device has no addresses, either
	var all, long []netip.Addr
	for _, link := range links {
		if ofContainers(link.Name) {
			continue
		}
		addresses, _ := link.Addrs() // as above
		for _, a := range global(addresses) {
			if a.Is4() {
				all = append(all, a)
			} else {
				long = append(long, a)
			}
		}
	}
	return append(all, long...)
}

// global leaves out what no other link can reach.
func global(addresses []net.Addr) (all []netip.Addr) {
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().IsGlobalUnicast() {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all
}

// ofContainers reports whether a link of this name belongs to containers: a network of an app (containers/network), or
// of Docker: docker0, veth..., and br- with twelve digits. An owner may call a bridge br-lan.
func ofContainers(name string) bool {
	if digits, is := strings.CutPrefix(name, "br-"); is {
		return len(digits) == 12 && strings.Trim(digits, "0123456789abcdef") == ""
	}
	for _, prefix := range []string{"net-", "docker", "veth"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
