package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"resinos/containers/app"
	"resinos/containers/network/listening"
	"resinos/containers/network/pool"
)

// Plan computes the networks of these containers. It uses the addresses of old where it has them; the returned pool
// contains exactly those of the layout. A container that cannot get what it asks for gets a fault, and does not affect
// the others.
func Plan(wanted []app.Container, old pool.Pool, around Surroundings) (Layout, pool.Pool) {
	p := planner{
		old: old, pool: pool.Pool{Networks: map[string]pool.Subnet{}, Apps: map[string][]app.Container{}, Own: old.Own},
		bridges: map[string]*Bridge{}, faults: map[string]error{},
		routes: slices.Concat(around.Routes, pool.Reserved()),
	}
	wanted = slices.Clone(wanted)
	slices.SortFunc(wanted, func(a, b app.Container) int { return strings.Compare(a.ID(), b.ID()) })
	for _, c := range wanted {
		if c.Network == app.NetworkBridge {
			p.networks(c)
		}
	}
	p.addresses(wanted)
	l := Layout{Faults: p.faults}
	for _, c := range wanted {
		if c.Network == app.NetworkBridge {
			p.pool.Apps[c.App] = append(p.pool.Apps[c.App], c)
			l.Ports = append(l.Ports, p.ports(c, l.Ports, around.Listeners)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.bridges)) {
		l.Bridges = append(l.Bridges, *p.bridges[name])
	}
	return l, p.pool
}

type planner struct {
	old, pool pool.Pool
	bridges   map[string]*Bridge // by network
	faults    map[string]error
	routes    []netip.Prefix
}

func (p *planner) fault(c app.Container, err error) {
	p.faults[c.ID()] = errors.Join(p.faults[c.ID()], err)
}

// networks gives each network of c its subnets.
func (p *planner) networks(c app.Container) {
	for _, l := range c.Links {
		if p.bridges[l.Network] != nil {
			continue
		}
		b := &Bridge{Network: l.Network, Link: linkName("net-", l.Network), Internal: l.Internal, MTU: l.MTU}
		var err error
		if b.Gateway, err = p.subnet(l.Network, l.Subnet, false); err == nil && l.IPv6 {
			b.Gateway6, err = p.subnet(l.Network, l.Subnet6, true)
		}
		if err != nil {
			p.fault(c, err)
			continue
		}
		p.bridges[l.Network] = b
	}
}

// subnet gives a network its subnet of one family, and returns the device's address in it.
func (p *planner) subnet(network, asked string, six bool) (netip.Prefix, error) {
	var own netip.Prefix
	if six {
		own = p.pool.Own
	}
	old, now := p.old.Family(six), p.pool.Family(six)
	both := map[string]pool.Subnet{}
	maps.Copy(both, old)
	maps.Copy(both, now)
	prefix, err := pool.Choose(both, own, network, asked, p.routes)
	if err != nil {
		return prefix, err
	}
	s := pool.Subnet{Prefix: prefix, Addresses: map[string]netip.Addr{}}
	if had, ok := old[network]; ok && had.Prefix == prefix {
		maps.Copy(s.Addresses, had.Addresses)
	}
	now[network] = s
	return netip.PrefixFrom(pool.Gateway(prefix), prefix.Bits()), nil
}

// addresses gives each container its addresses: first the containers that ask for one, then those that have one.
func (p *planner) addresses(wanted []app.Container) {
	type place struct {
		c app.Container
		l app.Link
		i int
	}
	var places []place
	there := map[string]map[string]bool{}
	for _, c := range wanted {
		for i, l := range c.Links {
			if p.bridges[l.Network] == nil {
				continue
			}
			if there[l.Network] == nil {
				there[l.Network] = map[string]bool{}
			}
			there[l.Network][c.ID()] = true
			places = append(places, place{c, l, i})
		}
	}
	for _, family := range []bool{false, true} {
		for name, s := range p.pool.Family(family) {
			maps.DeleteFunc(s.Addresses, func(id string, _ netip.Addr) bool { return !there[name][id] })
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return rank(a.l, p, a.c) - rank(b.l, p, b.c) })
	for _, at := range places {
		b, e := p.bridges[at.l.Network], p.end(at.c, at.l, at.i)
		var err error
		e.Address, err = address(p.pool.Networks[b.Network], at.c.ID(), at.l.Address)
		if err == nil && b.Gateway6.IsValid() {
			e.Address6, err = address(p.pool.Six[b.Network], at.c.ID(), at.l.Address6)
		}
		if err != nil {
			p.fault(at.c, err)
			continue
		}
		b.Ends = append(b.Ends, e)
	}
	for _, b := range p.bridges {
		slices.SortFunc(b.Ends, func(x, y End) int { return strings.Compare(x.Container, y.Container) })
	}
}

// address gives a container its address in a subnet.
func address(s pool.Subnet, id, asked string) (netip.Addr, error) {
	a, err := s.Address(id, asked)
	if err != nil {
		delete(s.Addresses, id)
		return a, err
	}
	s.Addresses[id] = a
	return a, nil
}

// end is the connection of a container to its i-th network, without its addresses.
func (p *planner) end(c app.Container, l app.Link, i int) End {
	return End{
		Container: c.ID(), Link: linkName("ve-", c.ID()+" "+l.Network), Inside: fmt.Sprintf("eth%d", i),
		Default: i == outward(c), Default6: i == outward6(c), Names: names(c, l), Device: asksForDevice(c),
	}
}

func rank(l app.Link, p *planner, c app.Container) int {
	if l.Address+l.Address6 != "" {
		return 0
	}
	if _, ok := p.pool.Networks[l.Network].Addresses[c.ID()]; ok {
		return 1
	}
	return 2
}

// outward returns the index of the network of c that leads out: the first that is not internal, or -1.
func outward(c app.Container) int {
	return slices.IndexFunc(c.Links, func(l app.Link) bool { return !l.Internal })
}

// outward6 is outward of those that have IPv6.
func outward6(c app.Container) int {
	return slices.IndexFunc(c.Links, func(l app.Link) bool { return !l.Internal && l.IPv6 })
}

func asksForDevice(c app.Container) bool {
	return slices.ContainsFunc(c.Hosts, func(h string) bool { return strings.HasSuffix(h, "="+app.HostGateway) })
}

func names(c app.Container, l app.Link) []string {
	if c.Hold != "" {
		return []string{c.ID()}
	}
	out := append([]string{c.Service}, l.Aliases...)
	if c.ContainerName != "" {
		out = append(out, c.ContainerName)
	}
	return append(out, c.ID())
}

// linkName shortens a name to one that the kernel accepts, 15 bytes at most.
func linkName(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:5])
}

// ports returns the forwards of c. A port that is taken is a fault that names its holder.
func (p *planner) ports(c app.Container, others []Forward, listeners []listening.Listener) []Forward {
	var out []Forward
	if len(c.Ports) > 0 && outward(c) < 0 {
		p.fault(c,
			errors.New("its networks are internal, so no port of it is published: remove ports or add a network"))
		return nil
	}
	for _, port := range c.Ports {
		to := p.reach(c, port)
		if len(to) == 0 {
			if p.bridges[c.Links[outward(c)].Network] != nil {
				p.fault(c, fmt.Errorf("port %s is published on an address of IPv6, and no network of it has that:"+
					" write enable_ipv6: true there", port))
			}
			continue // the fault is recorded already
		}
		if who := holder(port, others, listeners); who != "" {
			p.fault(c, fmt.Errorf("port %s is taken by %s: publish another one", port, who))
			continue
		}
		out = append(out, to...)
	}
	return out
}

// reach returns to where a published port leads: to the addresses on the networks that lead out, of the families that
// the device's address allows.
func (p *planner) reach(c app.Container, port app.Port) (list []Forward) {
	four, six := families(port.Address)
	for _, family := range []struct {
		asked bool
		link  int
		six   bool
	}{{four, outward(c), false}, {six, outward6(c), true}} {
		if !family.asked || family.link < 0 {
			continue
		}
		network := c.Links[family.link].Network
		to, ok := p.pool.Family(family.six)[network].Addresses[c.ID()]
		if b := p.bridges[network]; ok && b != nil {
			list = append(list, Forward{Port: port, Container: c.ID(), Bridge: b.Link, To: to})
		}
	}
	return list
}

// families are those of an address of the device on which a port is published.
func families(address string) (four, six bool) {
	a, err := netip.ParseAddr(address)
	return err != nil || a.Is4(), err != nil || a.Is6()
}

// meet reports whether a packet can be for both addresses of the device.
func meet(a, b string) bool {
	if a == "" || b == "" || a == b {
		return true
	}
	x, err := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err != nil || err2 != nil || x.Is4() == y.Is4() && (x.IsUnspecified() || y.IsUnspecified())
}

// holder names who has one of the ports; "" if nobody has.
func holder(port app.Port, others []Forward, listeners []listening.Listener) string {
	for _, o := range others {
		if o.Protocol == port.Protocol && o.First <= port.Last && port.First <= o.Last &&
			meet(o.Address, port.Address) {
			name, service, _ := strings.Cut(o.Container, ".")
			return fmt.Sprintf("app %s, service %s", name, service)
		}
	}
	for _, l := range listeners {
		if l.Protocol != port.Protocol || l.Port < port.First || l.Port > port.Last {
			continue
		}
		if l.Address.IsUnspecified() || meet(l.Address.Unmap().String(), port.Address) {
			return "the device: " + l.Who
		}
	}
	return ""
}
