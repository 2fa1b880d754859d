// Package network owns how containers are reached and what they reach: a bridge for each network of an app, an address
// for each container on it, and the packet filter's table of ours with published ports and who may talk to whom.
//
// It starts no process and keeps nothing in the packet filter that the plan does not have. It never touches links,
// addresses or tables that are not its own: links are known by their alias, the table by its name.
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
)

// Layout is all that is wanted in the kernel.
type Layout struct {
	Bridges []Bridge // sorted by network
	Ports   []Forward
	// Faults are what keeps containers from being started, by container.
	Faults map[string]error
}

// Bridge is one network.
type Bridge struct {
	Network  string
	Link     string       // the name of the bridge
	Gateway  netip.Prefix // its own address, with the length of the subnet
	Internal bool
	MTU      int // 0: the kernel's
	Ends     []End
}

// End is where a container is on a network.
type End struct {
	Container string
	Link      string // on the device; in the container it is eth0, eth1…
	Inside    string
	Address   netip.Addr
	Default   bool     // the container's way out
	Names     []string // by which its neighbours find it
	Device    bool     // it may reach the services of the device
}

// Forward is a range of ports of the device that leads to a container.
type Forward struct {
	app.Port
	Container string
	Bridge    string
	To        netip.Addr
}

// Listener is a port that a program of the device has open.
type Listener struct {
	Protocol string
	Address  netip.Addr
	Port     uint16
	Who      string
}

// Surroundings is what the device has beside the containers.
type Surroundings struct {
	Routes    []netip.Prefix // of others, without the default
	Listeners []Listener
}
