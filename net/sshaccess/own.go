package sshaccess

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// closed returns the reason why a client cannot log in without a key; nil if it can.
func (g *Gate) closed() error {
	if !g.NoAuth {
		return errors.New("log in: a key is needed")
	}
	if _, err := g.keys(); err != nil {
		return err
	}
	remote, local := addressOf(g.Remote), addressOf(g.Local)
	links, err := ownLinks()
	if err != nil {
		g.Log.Error("own addresses not read, a key is needed", "error", err)
		return errors.New("log in: the addresses of this device cannot be read: set os.sshKeys")
	}
	if from := withinDevice(remote, local, links); from != "" {
		return fmt.Errorf("log in: a login without a key is not allowed from %s: set os.sshKeys", from)
	}
	return nil
}

// ownLink is what is needed of a link of this device to decide whether a client is on the device.
type ownLink struct {
	name     string
	prefixes []netip.Prefix
	inside   bool // it leads only to this device: to containers
}

// withinDevice describes where a client on the device itself is; empty: it comes from outside. A container is on the
// device: one on the host's network has loopback and every own address, and one behind a bridge is in the network of an
// own address.
func withinDevice(remote, local netip.Addr, links []ownLink) string {
	zone := remote.Zone()
	remote, local = plain(remote), plain(local)
	if !remote.IsValid() || remote.IsLoopback() || remote == local {
		return "this device itself"
	}
	for _, l := range links {
		for _, p := range l.prefixes {
			if p.Addr() == remote {
				return "this device itself"
			}
			// Every link has the same link-local network: only the zone tells on which link the client is.
			if l.inside && p.Contains(remote) && (!remote.IsLinkLocalUnicast() || remote.Is4() || zone == l.name) {
				return "a container on link " + l.name
			}
		}
	}
	return ""
}

// plain returns an address for comparison: IPv4 also where it was mapped into IPv6, and without a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// addressOf returns the address of a TCP address; for others it is invalid.
func addressOf(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

// sysNet is the directory in which the kernel describes links.
const sysNet = "/sys/class/net"

func ownLinks() ([]ownLink, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var links []ownLink
	for _, one := range list {
		l := ownLink{name: one.Name, inside: inside(sysNet, one.Name)}
		addrs, err := one.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.prefixes = append(l.prefixes, netip.PrefixFrom(plain(p.Addr()), p.Bits()))
			}
		}
		links = append(links, l)
	}
	return links, nil
}

// maxLinkDepth limits the way from a bridge over a bond and a VLAN down to the hardware.
const maxLinkDepth = 8

// inside reports whether a link leads to containers only: it is ethernet, and neither it nor a link below it is
// hardware. The bridge of an owner's network has hardware in it, and a tunnel is not ethernet.
func inside(sys, name string) bool {
	kind, err := os.ReadFile(filepath.Join(sys, name, "type"))
	const ethernet = "1" // ARPHRD_ETHER
	return err == nil && strings.TrimSpace(string(kind)) == ethernet && !onHardware(sys, name, maxLinkDepth)
}

func onHardware(sys, name string, depth int) bool {
	if _, err := os.Stat(filepath.Join(sys, name, "device")); err == nil {
		return true
	}
	lower, _ := filepath.Glob(filepath.Join(sys, name, "lower_*")) // fails only for a bad pattern
	for _, path := range lower {
		_, below, _ := strings.Cut(filepath.Base(path), "lower_")
		if depth > 0 && onHardware(sys, below, depth-1) {
			return true
		}
	}
	return false
}
