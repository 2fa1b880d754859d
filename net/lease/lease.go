// Package lease owns DHCPv4: what a server granted (Lease), what to send when (Machine, a pure step function), and the
// packets and the raw socket for it.
//
// It never sets an address or writes resolv.conf (netd does), and never reads a clock: the caller passes in each
// instant as the time since kernel start (CLOCK_BOOTTIME), because the wall clock of a device jumps by decades when it
// first learns the time. grant.go limits everything that a server sends before anybody else sees it. Read Machine
// first.
package lease

import (
	"net/netip"
	"time"
)

// Lease is a grant with an end: every value in it has passed the limits.
type Lease struct {
	Link      string       // name of the link it is for
	Hardware  string       // the link's hardware address
	Address   netip.Prefix // our address and the prefix length of the subnet
	Broadcast netip.Addr
	Server    netip.Addr // the server that granted it
	Routers   []netip.Addr
	Routes    []Route // classless routes (RFC 3442); if there are any, Routers are ignored
	DNS       []netip.Addr
	NTP       []netip.Addr
	Domains   []string // from option 15: one, as RFC 2132 says, or the list that many servers send
	Search    []string // from option 119
	Hostname  string   // the name that the server gives us; empty or a valid host name
	MTU       int      // 0: the server sent none

	Bound  time.Duration // when the grant began: time since kernel start
	Renew  time.Duration // T1, counted from Bound
	Rebind time.Duration // T2, counted from Bound
	Length time.Duration
}

// Route is one classless route of a lease.
type Route struct {
	Destination netip.Prefix // masked
	Gateway     netip.Addr   // 0.0.0.0: the destination is on the link
}

// Ends returns the time after which the lease must no longer be used.
func (l Lease) Ends() time.Duration { return l.Bound + l.Length }

// Gateways returns the routes through other devices, most important first: only the classless routes if there are any
// (RFC 3442 says to ignore the router option then), else a default route through the first router.
func (l Lease) Gateways() []Route {
	if len(l.Routes) > 0 {
		return l.Routes
	}
	if len(l.Routers) == 0 {
		return nil
	}
	return []Route{{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: l.Routers[0]}}
}

// SearchDomains returns the search list, and the domains if the server gave no list.
func (l Lease) SearchDomains() []string {
	if len(l.Search) == 0 {
		return l.Domains
	}
	return l.Search
}
