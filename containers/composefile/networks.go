package composefile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
	"resinos/containers/composefile/values"
)

// maxPorts bounds what one service publishes: each port that is not its own target is a rule.
const maxPorts = 2048

// networks reads the app's networks; their names are without the app's.
func (l *load) networks() map[string]app.Link {
	out := map[string]app.Link{}
	for _, name := range slices.Sorted(maps.Keys(l.project.Networks)) {
		n, path := l.project.Networks[name], "networks."+name
		link := app.Link{Network: name, Internal: n.Internal}
		if !app.ValidName(name) {
			l.fault(path, "network name is not of a-z, 0-9 and single - or _ between them")
		}
		if n.External {
			l.fault(path+".external", "an app cannot join networks of others: publish a port and use that")
		}
		if n.Driver != "" && n.Driver != "bridge" {
			l.fault(path+".driver", "driver %q does not exist, only bridge does", n.Driver)
		}
		link.IPv6 = n.EnableIPv6 != nil && *n.EnableIPv6
		if n.EnableIPv4 != nil && !*n.EnableIPv4 {
			l.fault(path+".enable_ipv4", "each network of an app has IPv4: remove the key")
		}
		if err := values.MTU(&link, n.DriverOpts); err != nil {
			l.fault(path+".driver_opts", "%v", err)
		}
		if err := values.Subnets(&link, n.Ipam); err != nil {
			l.fault(path+".ipam", "%v", err)
		}
		out[name] = link
	}
	return out
}

// network is what the container reaches and who reaches it.
func (c *converter) network(known map[string]app.Link) {
	c.ports()
	c.names()
	switch n := app.Network(c.s.NetworkMode); n {
	case "", app.NetworkBridge:
		c.c.Network = app.NetworkBridge
		c.links(known)
	case app.NetworkHost, app.NetworkNone:
		c.c.Network = n
		c.apart()
	default:
		if strings.HasPrefix(c.s.NetworkMode, types.ServicePrefix) {
			c.sharedNetwork()
			return
		}
		c.bad("network_mode", "%q does not exist: write bridge, host, none or service:NAME", n)
	}
}

// apart refuses what needs a network of the app.
func (c *converter) apart() {
	mode := c.s.NetworkMode
	if len(c.c.Ports) > 0 && c.c.Network == app.NetworkHost {
		c.warn(c.path+".ports", "the container is on the device's network, where its ports are open already")
	} else if len(c.c.Ports) > 0 && c.c.Network == app.NetworkNone {
		c.bad("ports", "a container without a network has no ports: remove ports or network_mode: none")
	}
	if len(c.c.Hosts)+len(c.c.DNS)+len(c.c.DNSSearch)+len(c.c.DNSOpts) > 0 {
		c.fault(c.path, "extra_hosts, dns, dns_search and dns_opt do nothing with network_mode: %s: remove them", mode)
	}
	c.c.Ports = nil
}

func (c *converter) links(known map[string]app.Link) {
	networks := c.s.Networks
	if len(networks) == 0 {
		networks = map[string]*types.ServiceNetworkConfig{app.DefaultNetwork: nil}
	}
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		link, path := known[name], "networks."+name
		if n := networks[name]; n != nil {
			link.Aliases, link.Address, link.Address6 = n.Aliases, n.Ipv4Address, n.Ipv6Address
			if len(n.LinkLocalIPs) > 0 {
				c.warn(c.path+"."+path, "link_local_ips is not carried out")
			}
			if n.MacAddress != "" || n.InterfaceName != "" || len(n.DriverOpts) > 0 {
				c.warn(c.path+"."+path, "mac_address, interface_name and driver_opts are not carried out")
			}
		}
		link.Aliases = append(slices.Clone(link.Aliases), c.linkedAs()...)
		for _, a := range link.Aliases {
			if err := values.CheckName(a); err != nil {
				c.bad(path+".aliases", "%v", err)
			}
		}
		if err := errors.Join(values.Fits("ipv4_address", link.Address, link.Subnet),
			values.Fits("ipv6_address", link.Address6, link.Subnet6)); err != nil {
			c.bad(path, "%v", err)
		}
		link.Network = c.c.App + "_" + name
		c.c.Links = append(c.c.Links, link)
	}
}

// linkedAs are the names that links of other services give this one. All of its networks get them, not only the service
// that asks; dependencies come from compose-go.
func (c *converter) linkedAs() (names []string) {
	for _, other := range slices.Sorted(maps.Keys(c.project.Services)) {
		for _, text := range c.project.Services[other].Links {
			service, alias, found := strings.Cut(text, ":")
			if found && service == c.s.Name && alias != service && !slices.Contains(names, alias) {
				names = append(names, alias)
			}
		}
	}
	return names
}

func (c *converter) ports() {
	if len(c.s.Ports) > maxPorts {
		c.bad("ports", "more than %d ports", maxPorts)
		return
	}
	for _, p := range c.s.Ports {
		port, err := portOf(p)
		if err != nil {
			c.bad("ports", "%v", err)
			continue
		}
		c.c.Ports = append(c.c.Ports, port)
	}
	c.c.Ports = values.JoinPorts(c.c.Ports)
}

func portOf(p types.ServicePortConfig) (app.Port, error) {
	if p.Published == "" {
		return app.Port{}, fmt.Errorf("port %d has no port of the device: write \"%d:%d\"", p.Target, p.Target,
			p.Target)
	}
	n, err := strconv.ParseUint(p.Published, 10, 16)
	if err != nil || n == 0 || p.Target == 0 || p.Target > 65535 {
		return app.Port{}, fmt.Errorf("%s:%d: write one port of the device, 1 to 65535, for one of the container",
			p.Published, p.Target)
	}
	protocol := cmp.Or(p.Protocol, "tcp")
	if protocol != "tcp" && protocol != "udp" {
		return app.Port{}, fmt.Errorf("protocol %s is not published, only tcp and udp are", protocol)
	}
	out := app.Port{Protocol: protocol, Address: p.HostIP, First: uint16(n), Last: uint16(n), Target: uint16(p.Target)}
	if p.HostIP != "" {
		address, err := netip.ParseAddr(p.HostIP)
		if err != nil || address.Zone() != "" || address.Is4In6() {
			return app.Port{}, fmt.Errorf("%q is no address of the device", p.HostIP)
		}
		out.Address = address.String()
	}
	return out, nil
}

// names are the names and name servers that the container knows.
func (c *converter) names() {
	if c.c.ContainerName = c.s.ContainerName; c.c.ContainerName != "" {
		if err := values.CheckName(c.c.ContainerName); err != nil {
			c.bad("container_name", "%v", err)
		}
	}
	for name, addresses := range c.s.ExtraHosts {
		if err := values.CheckName(name); err != nil {
			c.bad("extra_hosts", "%v", err)
		}
		for _, a := range addresses {
			if _, err := netip.ParseAddr(a); err != nil && a != app.HostGateway {
				c.bad("extra_hosts", "%s: %q is neither an address nor %s", name, a, app.HostGateway)
			}
			c.c.Hosts = append(c.c.Hosts, name+"="+a)
		}
	}
	slices.Sort(c.c.Hosts)
	for _, s := range c.s.DNS {
		if _, err := netip.ParseAddr(s); err != nil {
			c.bad("dns", "%q is no address of a name server", s)
		}
	}
	for _, s := range c.s.DNSSearch {
		if err := values.CheckName(s); err != nil && s != "." {
			c.bad("dns_search", "%v", err)
		}
	}
	for _, s := range c.s.DNSOpts {
		if s == "" || strings.ContainsAny(s, " \t\r\n\x00") {
			c.bad("dns_opt", "%q is no option of resolv.conf", s)
		}
	}
	c.c.DNS, c.c.DNSSearch, c.c.DNSOpts = c.s.DNS, c.s.DNSSearch, c.s.DNSOpts
}
