// Package link owns the kernel's state of network links: which links exist, the kind of each, their addresses and
// routes, and the steps that turn the actual state into the wanted one.
//
// It never decides what is wanted (netd does, from profiles and leases), never changes a link that no profile claims,
// and never removes an address or route that it did not set: ours have our protocol number (Protocol); addresses from a
// router's advertisements have the kernel's.
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

// Protocol marks our addresses (IFA_PROTO, Linux 5.18) and routes. iproute2 prints this number as "dhcp" for routes;
// for addresses, the kernel uses 1 to 3 itself.
const Protocol = unix.RTPROT_DHCP

// Mark is the group (IFLA_GROUP) of the links that netd has created: "resi" in ASCII. The kernel gives it to a link in
// the moment of its creation, so that no link of ours is ever without it.
const Mark uint32 = 0x72657369

// Forever is the lifetime of an address that does not expire.
const Forever time.Duration = math.MaxUint32 * time.Second

// Link is one kernel network link at the time of reading.
type Link struct {
	Index    int
	Name     string
	Kind     Kind
	Hardware string // as in 52:54:00:12:34:56; empty if the link has none
	Burnt    string // the hardware address that the device itself has; empty if the kernel does not know
	Type     string // of a virtual link: bridge, vlan, bond…
	Driver   string // of the device
	Path     string // of the device, as in pci-0000:00:02.0
	Master   int    // index of the bridge or bond that it is part of, or 0
	MTU      int
	Own      bool // netd created it
	Up       bool // set up by an administrator, as in "ip link set up"
	Carrier  bool // the other end is connected
}

// Address is an address of a link.
type Address struct {
	Prefix    netip.Prefix // address and prefix length, not masked
	Broadcast netip.Addr   // not valid: none
	Valid     time.Duration
	Ours      bool // it has our protocol number, as each that Apply sets
	Unchecked bool // put without the kernel's check whether somebody else has it (IPv6)
}

// String returns the address as "10.0.2.15/24 valid 1h0m0s".
func (a Address) String() string {
	valid := "forever"
	if a.Valid < Forever {
		valid = a.Valid.Round(time.Second).String()
	}
	return fmt.Sprintf("%s valid %s", a.Prefix, valid)
}

// Route is a route through one link.
type Route struct {
	Destination netip.Prefix // masked; 0.0.0.0/0 is the default route
	Gateway     netip.Addr   // not valid: the destination is on the link itself
	Source      netip.Addr   // of our packets; the route goes with this address. Not valid: the kernel chooses
	Metric      int
	OnLink      bool // the gateway is reached on this link although none of our addresses covers it
	MTU         int  // 0: the link's
	Table       int  // 0: the main table
	TOS         int
	Tuning      Tuning
}

// Tuning are the rarer attributes of a route; 0: the kernel's.
type Tuning struct {
	Window, AdvMSS, InitCwnd, InitRwnd, RTOMin, QuickACK int
	MTULock                                              bool
}

// String returns the route in the words of iproute2.
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
	if r.Source.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Source)
	}
	fmt.Fprintf(&b, " metric %d", r.Metric)
	if r.OnLink {
		b.WriteString(" onlink")
	}
	if r.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", r.MTU)
	}
	if r.Table != 0 {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	if r.TOS != 0 {
		fmt.Fprintf(&b, " tos %d", r.TOS)
	}
	if r.Tuning != (Tuning{}) {
		fmt.Fprintf(&b, " %+v", r.Tuning)
	}
	return b.String()
}

// routeKey is what the kernel has at most once in a table: a second route with the same key replaces the first.
type routeKey struct {
	destination        netip.Prefix
	metric, table, tos int
}

func (r Route) key() routeKey { return routeKey{r.Destination, r.Metric, r.Table, r.TOS} }

// Actual is one link with everything that Plan compares.
type Actual struct {
	Link      Link
	Addresses []Address
	Routes    []Route           // only ours
	SkipsDown bool              // ignore_routes_with_linkdown: without a carrier the next route is used
	IPv6      map[string]string // the kernel's settings for the link by name, of those in ipv6Settings
}

// Wanted is what a link should have.
type Wanted struct {
	Up        bool
	SkipsDown bool
	MTU       int    // 0: no change
	Hardware  string // empty: no change
	Master    *int   // index of the bridge or bond that it is to be part of; nil: no change
	IPv6      []Setting
	Addresses []Address
	Routes    []Route // in the order in which they can be added
}

// Setting is one of the kernel's settings of IPv6 for a link, as in disable_ipv6.
type Setting struct{ Name, Value string }
