package app

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
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
	Internal bool     `json:",omitempty"` // of the network: nothing leaves it
	MTU      int      `json:",omitempty"` // of the network; 0: the kernel's
}

// Port is a range of ports of the device that lead to the same number of ports of a container.
type Port struct {
	Protocol string // tcp or udp
	Address  string // of the device; empty: all
	// First and Last are the device's, Target is the container's for First.
	First, Last, Target uint16
}

// String is how people write it: 127.0.0.1:8080-8081:80-81/tcp.
func (p Port) String() string {
	var b strings.Builder
	if p.Address != "" {
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

// maxPorts bounds what one service publishes: each port that is not its own target is a rule.
const maxPorts = 2048

func setPorts(c *Container, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("must be a list")
	}
	var all []types.ServicePortConfig
	for i, item := range list {
		some, err := portsOf(item)
		if err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
		if all = append(all, some...); len(all) > maxPorts {
			return fmt.Errorf("more than %d ports", maxPorts)
		}
	}
	c.Ports = nil
	for _, p := range all {
		port, err := portOf(p)
		if err != nil {
			return err
		}
		c.Ports = append(c.Ports, port)
	}
	c.Ports = joined(c.Ports)
	return nil
}

// portsOf reads one item of ports, in its short or its long form.
func portsOf(item any) ([]types.ServicePortConfig, error) {
	switch v := item.(type) {
	case int:
		return types.ParsePortConfig(strconv.Itoa(v))
	case string:
		if n := strings.Count(v, "-"); n > 2 || len(v) > 80 {
			return nil, fmt.Errorf("%q is no port", v)
		}
		return types.ParsePortConfig(v)
	case map[string]any:
		return longPort(v)
	}
	return nil, errors.New("must be a port, as \"8080:80\", or a mapping with target and published")
}

func longPort(m map[string]any) ([]types.ServicePortConfig, error) {
	var published, target, address, protocol string
	for name, value := range m {
		text := fmt.Sprint(value)
		switch name {
		case "target":
			target = text
		case "published":
			published = text
		case "host_ip":
			address = text
		case "protocol":
			protocol = "/" + text
		case "name", "app_protocol", "mode": // they say nothing that a single device has
		default:
			return nil, fmt.Errorf("%s is no key of a port", name)
		}
	}
	if target == "" {
		return nil, errors.New("target is lacking")
	}
	spec := published + ":" + target + protocol
	if address != "" {
		spec = address + ":" + spec
	}
	if published == "" {
		spec = target + protocol
	}
	return types.ParsePortConfig(spec)
}

func portOf(p types.ServicePortConfig) (Port, error) {
	if p.Published == "" {
		return Port{}, fmt.Errorf("port %d has no port of the device: write \"%d:%d\"", p.Target, p.Target, p.Target)
	}
	n, err := strconv.ParseUint(p.Published, 10, 16)
	if err != nil || n == 0 || p.Target == 0 || p.Target > 65535 {
		return Port{}, fmt.Errorf("%s:%d: write one port of the device, 1 to 65535, for one of the container",
			p.Published, p.Target)
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return Port{}, fmt.Errorf("protocol %s is not published, only tcp and udp are", p.Protocol)
	}
	out := Port{Protocol: p.Protocol, Address: p.HostIP, First: uint16(n), Last: uint16(n), Target: uint16(p.Target)}
	if p.HostIP != "" {
		address, err := netip.ParseAddr(p.HostIP)
		if err != nil || !address.Is4() {
			return Port{}, fmt.Errorf("%q is no IPv4 address of the device", p.HostIP)
		}
		if address.IsUnspecified() {
			out.Address = ""
		}
	}
	return out, nil
}

// joined makes ranges of ports that follow each other.
func joined(list []Port) []Port {
	slices.SortFunc(list, func(a, b Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Address, b.Address),
			cmp.Compare(a.First,
				b.First), cmp.Compare(a.Target, b.Target))
	})
	var out []Port
	for _, p := range list {
		if n := len(out) - 1; n >= 0 {
			o := out[n]
			if o == p {
				continue // written twice
			}
			if o.Protocol == p.Protocol && o.Address == p.Address && int(o.Last)+1 == int(p.First) &&
				int(p.Target)-int(o.Target) == int(p.First)-int(o.First) {
				out[n].Last = p.First
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

func setContainerName(c *Container, v any) error {
	c.ContainerName = v.(string)
	return checkName(c.ContainerName)
}

// checkName refuses what cannot be a name in the network.
func checkName(s string) error {
	for _, part := range strings.Split(s, ".") {
		if part == "" || len(part) > 63 || len(s) > 253 {
			return fmt.Errorf("%q is no name", s)
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return fmt.Errorf("%q is no name: %q is not allowed in one", s, r)
			}
		}
	}
	return nil
}

func setExtraHosts(c *Container, v any) error {
	var hosts types.HostsList
	if err := hosts.DecodeMapstructure(v); err != nil {
		return err
	}
	c.Hosts = nil
	for name, addresses := range hosts {
		if err := checkName(name); err != nil {
			return err
		}
		for _, a := range addresses {
			if _, err := netip.ParseAddr(a); err != nil && a != HostGateway {
				return fmt.Errorf("%s: %q is neither an address nor %s", name, a, HostGateway)
			}
			c.Hosts = append(c.Hosts, name+"="+a)
		}
	}
	slices.Sort(c.Hosts)
	return nil
}

func setDNS(c *Container, v any) error {
	list, err := stringsOf(v)
	if err != nil {
		return err
	}
	for _, s := range list {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("%q is no address of a name server", s)
		}
	}
	c.DNS = list
	return nil
}

func setDNSSearch(c *Container, v any) error {
	list, err := stringsOf(v)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := checkName(s); err != nil && s != "." {
			return err
		}
	}
	c.DNSSearch = list
	return nil
}

// stringsOf is a string or a list of strings as a list.
func stringsOf(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, 0, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("item %d must be a string", i)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, errors.New("must be a string or a list of strings")
}

// setNetworks reads which networks a service is on; what they are like is known later (parser.join).
func setNetworks(c *Container, v any) error {
	c.Links = nil
	switch v := v.(type) {
	case []any:
		names, err := stringsOf(v)
		if err != nil {
			return err
		}
		for _, name := range names {
			c.Links = append(c.Links, Link{Network: name})
		}
	case map[string]any:
		for name, settings := range v {
			l, err := linkOf(name, settings)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			c.Links = append(c.Links, l)
		}
	default:
		return errors.New("must be a list or a mapping of networks")
	}
	slices.SortFunc(c.Links, func(a, b Link) int { return strings.Compare(a.Network, b.Network) })
	return nil
}

func linkOf(name string, settings any) (Link, error) {
	l := Link{Network: name}
	if settings == nil {
		return l, nil
	}
	m, ok := settings.(map[string]any)
	if !ok {
		return l, errors.New("must be a mapping")
	}
	for key, value := range m {
		switch key {
		case "aliases":
			list, err := stringsOf(value)
			if err != nil {
				return l, fmt.Errorf("aliases: %w", err)
			}
			for _, a := range list {
				if err := checkName(a); err != nil {
					return l, fmt.Errorf("aliases: %w", err)
				}
			}
			l.Aliases = list
		case "ipv4_address":
			address, err := netip.ParseAddr(fmt.Sprint(value))
			if err != nil || !address.Is4() {
				return l, fmt.Errorf("ipv4_address: %v is no IPv4 address", value)
			}
			l.Address = address.String()
		case "priority", "gw_priority":
			// the links are in the order of their names
		default:
			return l, fmt.Errorf("%s is not supported", key)
		}
	}
	return l, nil
}

// networks reads the app's networks; their names are without the app's.
func (p *parser) networks(node *yaml.Node) map[string]Link {
	out := map[string]Link{}
	if node == nil {
		return out
	}
	if k := resolve(node).Kind; k != yaml.MappingNode && resolve(node).Tag != "!!null" {
		p.fault(node, "networks", "not a mapping")
		return out
	}
	p.each(node, "networks", func(key, value *yaml.Node, path string) {
		if !ValidName(key.Value) {
			p.fault(key, path, "network name is not of a-z, 0-9 and single - or _ between them")
			return
		}
		l := Link{Network: key.Value}
		p.each(value, path, func(key, value *yaml.Node, path string) {
			if err := networkKey(&l, key.Value, value); err != nil {
				p.fault(key, path, err.Error())
			}
		})
		out[key.Value] = l
	})
	return out
}

func networkKey(l *Link, name string, node *yaml.Node) error {
	switch name {
	case "driver":
		if node.Value != "bridge" {
			return fmt.Errorf("driver %q does not exist, only bridge does", node.Value)
		}
	case "internal":
		return node.Decode(&l.Internal)
	case "labels", "name", "attachable":
		// networks are the app's own and found by its name
	case "external":
		var external bool
		if err := node.Decode(&external); err != nil || external {
			return errors.New("an app cannot join networks of others: publish a port and use that")
		}
	case "driver_opts":
		return driverOptions(l, node)
	case "ipam":
		return addressing(l, node)
	case "enable_ipv6":
		var wanted bool
		if err := node.Decode(&wanted); err != nil || wanted {
			return errors.New("IPv6 is not there in networks of apps: use network_mode: host")
		}
	default:
		if !strings.HasPrefix(name, "x-") {
			return errors.New("not supported: remove the key")
		}
	}
	return nil
}

func driverOptions(l *Link, node *yaml.Node) error {
	var options map[string]string
	if err := node.Decode(&options); err != nil {
		return err
	}
	for name, value := range options {
		if name != "com.docker.network.driver.mtu" && name != "mtu" {
			return fmt.Errorf("option %s is not supported, only com.docker.network.driver.mtu is", name)
		}
		mtu, err := strconv.Atoi(value)
		if err != nil || mtu < 576 || mtu > 9216 {
			return fmt.Errorf("mtu %q is not between 576 and 9216", value)
		}
		l.MTU = mtu
	}
	return nil
}

func addressing(l *Link, node *yaml.Node) error {
	var ipam struct {
		Driver string
		Config []map[string]string
	}
	if err := node.Decode(&ipam); err != nil {
		return err
	}
	if len(ipam.Config) > 1 {
		return errors.New("one subnet is enough")
	}
	for _, config := range ipam.Config {
		for name, value := range config {
			if name != "subnet" {
				return fmt.Errorf("config.%s is not supported: the first address of the subnet is the gateway's", name)
			}
			prefix, err := netip.ParsePrefix(value)
			if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 29 || prefix.Bits() < 8 ||
				prefix.Masked() != prefix {
				return fmt.Errorf("subnet %q is no IPv4 subnet of /8 to /29", value)
			}
			l.Subnet = value
		}
	}
	return nil
}

// join completes the networks of a container, and refuses what needs one where there is none.
func (p *parser) join(c *Container, node *yaml.Node, path string) {
	if c.Network == "" {
		c.Network = NetworkBridge
	}
	if c.Network != NetworkBridge {
		if len(c.Links) > 0 {
			p.fault(node, path, fmt.Sprintf("networks and network_mode: %s exclude each other: remove one", c.Network))
		}
		if len(c.Ports) > 0 && c.Network == NetworkHost {
			p.warn(node, path+".ports", "the container is on the device's network, where its ports are open already")
		} else if len(c.Ports) > 0 {
			p.fault(node, path+".ports",
				"a container without a network has no ports: remove ports or network_mode: none")
		}
		if len(c.Hosts)+len(c.DNS)+len(c.DNSSearch) > 0 {
			p.fault(node, path,
				fmt.Sprintf("extra_hosts, dns and dns_search do nothing with network_mode: %s: remove them",
					c.Network))
		}
		c.Links, c.Ports = nil, nil
		return
	}
	if len(c.Links) == 0 {
		c.Links = []Link{{Network: DefaultNetwork}}
	}
	for i, l := range c.Links {
		known, ok := p.known[l.Network]
		if !ok && l.Network != DefaultNetwork {
			p.fault(node, path+".networks", fmt.Sprintf("network %s is not among the app's networks", l.Network))
			continue
		}
		if err := fits(l.Address, known.Subnet); err != nil {
			p.fault(node, path+".networks."+l.Network, err.Error())
		}
		c.Links[i].Network = c.App + "_" + l.Network
		c.Links[i].Subnet, c.Links[i].Internal, c.Links[i].MTU = known.Subnet, known.Internal, known.MTU
	}
}

func fits(address, subnet string) error {
	if address == "" {
		return nil
	}
	if subnet == "" {
		return errors.New("ipv4_address needs a network with ipam: {config: [{subnet: …}]}")
	}
	a, prefix := netip.MustParseAddr(address), netip.MustParsePrefix(subnet)
	if !prefix.Contains(a) || a == prefix.Addr() || a == prefix.Addr().Next() || !prefix.Contains(a.Next()) {
		return fmt.Errorf("ipv4_address %s is not free in %s: the first address is the gateway's, the last is for all",
			address, subnet)
	}
	return nil
}
