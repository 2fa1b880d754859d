// Package netstate defines the state that netd publishes of the links that it configures. Shared links, hooks and the
// packet filter follow it. It holds values only. Read first: State.
package netstate

import (
	"net/netip"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/lease"
)

// State is the network as netd has configured it.
type State struct {
	Hostname string
	Reach    string // what the device reaches, in NetworkManager's words (FULL, LIMITED, ...); empty: not known
	Links    []Link // those that netd configures, by index
}

// Link is one link.
type Link struct {
	Name      string
	Index     int
	Hardware  string
	Carrier   bool
	File      string // its key file; empty: it has none
	Written   int64  // when the content of the key file that is in force was written, in nanoseconds since 1970
	ID        string // the id and UUID in that file
	UUID      string
	Plain     bool           // it gets no address: a port of a bridge, or [ipv4] method=disabled
	Tunnel    bool           // it is a tunnel of wireguard or openvpn
	Listens   uint16         // the UDP port of a tunnel that others may open; 0: none
	Shared    netip.Prefix   // what it gives others addresses of; the zero value: nothing
	Shared6   netip.Prefix   // the same of IPv6
	Delegated []Network      // of delegated prefixes, which it gives others addresses of as well
	Addresses []netip.Prefix // that netd gives it
	Routes    []Route
	Servers   []netip.Addr // of names
	Search    []string
	Lease     *lease.Lease // of DHCP; nil: none
	Lease6    *dhcp6.Lease // of DHCPv6; nil: none
}

// Network is what a shared link gets of a prefix that a server has delegated. Instants are counted from kernel start.
type Network struct {
	Prefix    netip.Prefix  // of 64 bits
	Preferred time.Duration // until then guests may use it for something new
	Valid     time.Duration // until then it is routed to the device; 0: it is not, and guests are told so
}

// Own returns the address of the device in the network, with its length.
func (n Network) Own() netip.Prefix {
	a := n.Prefix.Addr().As16()
	a[15] = 1
	return netip.PrefixFrom(netip.AddrFrom16(a), n.Prefix.Bits())
}

// Route is a route that netd gives a link.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // the zero value: none
	Metric      int
}

// Up reports whether the link is of use: it has a carrier, and the address that it is to have.
func (l Link) Up() bool { return l.Carrier && (l.Plain || len(l.Addresses) > 0) }

// Named returns the link of a name.
func (s State) Named(name string) (Link, bool) {
	for _, l := range s.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}
