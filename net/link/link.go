// Package link owns what the kernel knows about network links: which links there are, what kind each is, their
// addresses and routes, and the steps that turn what is there into what is wanted.
//
// It never decides what is wanted (netd does, from profiles and leases), never touches a link that no profile
// claims, and never removes an address or route that it did not set: both carry our protocol (Protocol), and a router's
// addresses the kernel's.
//
// Read first: Wanted, then Plan.
package link

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Protocol marks the addresses (IFA_PROTO, Linux 5.18) and routes that are ours. It is the number that iproute2 prints as
// "dhcp" for routes; of addresses, the kernel takes 1 to 3 for its own.
const Protocol = unix.RTPROT_DHCP

// Forever is the lifetime of an address that the kernel never ages.
const Forever time.Duration = math.MaxUint32 * time.Second

// Link is one kernel network link as it is now.
type Link struct {
	Index    int
	Name     string
	Kind     Kind
	Hardware string // as in 52:54:00:12:34:56; empty if the link has none
	MTU      int
	Up       bool // set up by an administrator, as in "ip link set up"
	Carrier  bool // the other end is there
}

// Address is an IPv4 address of a link.
type Address struct {
	Prefix    netip.Prefix // address and prefix length, not masked
	Broadcast netip.Addr   // not valid: none
	Valid     time.Duration
	Ours      bool // it carries our protocol; each that Apply puts does
}

// String gives the address as "10.0.2.15/24 valid 1h0m0s".
func (a Address) String() string {
	valid := "forever"
	if a.Valid < Forever {
		valid = a.Valid.Round(time.Second).String()
	}
	return fmt.Sprintf("%s valid %s", a.Prefix, valid)
}

// Route is an IPv4 route in the main table that leaves by one link.
type Route struct {
	Destination netip.Prefix // masked; 0.0.0.0/0 is the default route
	Gateway     netip.Addr   // not valid: the destination is on the link itself
	Source      netip.Addr   // the address our packets carry; the kernel drops the route with the address
	Metric      int
	OnLink      bool // the gateway is reached on this link although no address of ours covers it
	MTU         int  // 0: the link's
}

// String gives the route in the words of iproute2.
func (r Route) String() string {
	var b strings.Builder
	dst := r.Destination.String()
	if r.Destination.Bits() == 0 {
		dst = "default"
	}
	b.WriteString(dst)
	if r.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Gateway)
	} else {
		b.WriteString(" scope link")
	}
	fmt.Fprintf(&b, " src %s metric %d", r.Source, r.Metric)
	if r.OnLink {
		b.WriteString(" onlink")
	}
	if r.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", r.MTU)
	}
	return b.String()
}

// routeKey names what the kernel holds at most once per table: a second route with the same key replaces the first.
type routeKey struct {
	destination netip.Prefix
	metric      int
}

func (r Route) key() routeKey { return routeKey{r.Destination, r.Metric} }

// Actual is one link with everything on it that Plan compares.
type Actual struct {
	Link      Link
	Addresses []Address
	Routes    []Route // only ours
	SkipsDown bool    // ignore_routes_with_linkdown: a route without carrier gives way to the next one
}

// Wanted is what a link should have.
type Wanted struct {
	Up        bool
	SkipsDown bool
	MTU       int // 0: as it is
	Addresses []Address
	Routes    []Route // in the order in which they can be added
}
