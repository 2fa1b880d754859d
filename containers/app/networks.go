package app

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultNetwork is what compose calls the network of an app whose services name none.
const DefaultNetwork = "default"

// HostGateway stands, in extra_hosts, for the device as the container sees it. A container that asks for it
// reaches the services of the device.
const HostGateway = "host-gateway"

// Link is one network that a container is on.
type Link struct {
	Network  string   // APP_NETWORK, which no other app can have
	Aliases  []string `json:",omitempty"`
	Address  string   `json:",omitempty"` // wanted, or empty
	Subnet   string   `json:",omitempty"` // of the network; empty: one that is free
	IPv6     bool     `json:",omitempty"` // of the network: it has that too
	Address6 string   `json:",omitempty"` // wanted, or empty
	Subnet6  string   `json:",omitempty"` // of the network; empty: one that is free
	Internal bool     `json:",omitempty"` // of the network: nothing leaves it
	MTU      int      `json:",omitempty"` // of the network; 0: the kernel's
}

// Port is a range of ports of the device that lead to the same number of ports of a container.
type Port struct {
	Protocol string // tcp or udp
	Address  string // of the device; empty: all; 0.0.0.0 or ::, all of one family
	// First and Last are the device's, Target is the container's for First.
	First, Last, Target uint16
}

// String is how people write it: 127.0.0.1:8080-8081:80-81/tcp.
func (p Port) String() string {
	var b strings.Builder
	if strings.Contains(p.Address, ":") {
		b.WriteString("[" + p.Address + "]:")
	} else if p.Address != "" {
		b.WriteString(p.Address + ":")
	}
	b.WriteString(ports(p.First, p.Last) + ":" + ports(p.Target, p.Target+(p.Last-p.First)) + "/" + p.Protocol)
	return b.String()
}

func ports(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}
