// Package network owns the networks of containers: a bridge for each network of an app, an address for each container
// on it, and our table in the packet filter, with published ports and the rules for who may reach whom.
//
// It starts no process and keeps nothing in the packet filter that the plan does not contain. It never changes links,
// addresses or tables of others: its links are marked by their alias, its table by the name.
//
//	wanted containers ──┐
//	pool (on the disk) ─┼─ Plan ─ Layout ─┬─ bridges, by netlink
//	routes, listeners ──┘                 └─ Rules ─ one transaction of nftables
//
// Read first: Plan.
package network

import (
	"net/netip"

	"resinos/containers/app"
	"resinos/containers/network/listening"
)

// Layout is everything that should be in the kernel.
type Layout struct {
	Bridges []Bridge // sorted by network
	Ports   []Forward
	// Faults are the reasons why containers cannot be started, by container.
	Faults map[string]error
}

// Bridge is one network.
type Bridge struct {
	Network  string
	Link     string       // the name of the bridge
	Gateway  netip.Prefix // its own address, with the length of the subnet
	Gateway6 netip.Prefix // the same of IPv6; not valid: the network has none
	Internal bool
	MTU      int // 0: the kernel's
	Ends     []End
}

// End is the connection of a container to a network.
type End struct {
	Container string
	Link      string // on the device; in the container it is eth0, eth1…
	Inside    string
	Address   netip.Addr
	Address6  netip.Addr // not valid: none
	Default   bool       // the container's default route uses it
	Default6  bool       // likewise of IPv6
	Names     []string   // by which other containers find it
	Device    bool       // it may reach the services of the device
}

// Forward forwards a range of ports of the device to a container.
type Forward struct {
	app.Port
	Container string
	Bridge    string
	To        netip.Addr
}

// Surroundings are the routes and open ports of the device that do not belong to containers.
type Surroundings struct {
	Routes    []netip.Prefix // of others, without the default route
	Listeners []listening.Listener
}
