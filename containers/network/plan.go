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
)

// Plan computes the networks of these containers. It uses the addresses of pool where it has them; the returned pool
// contains exactly those of the layout. A container that cannot get what it asks for gets a fault, and does not affect
// the others.
func Plan(wanted []app.Container, pool Pool, around Surroundings) (Layout, Pool) {
	p := planner{
		old: pool, pool: Pool{Networks: map[string]Subnet{}, Apps: map[string][]app.Container{}},
		bridges: map[string]*Bridge{}, faults: map[string]error{}, routes: around.Routes,
	}
	for _, s := range reserved {
		p.routes = append(slices.Clip(p.routes), netip.MustParsePrefix(s))
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
	old, pool Pool
	bridges   map[string]*Bridge // by network
	faults    map[string]error
	routes    []netip.Prefix
}

func (p *planner) fault(c app.Container, err error) {
	p.faults[c.ID()] = errors.Join(p.faults[c.ID()], err)
}

// networks gives each network of c its subnet.
func (p *planner) networks(c app.Container) {
	for _, l := range c.Links {
		if p.bridges[l.Network] != nil {
			continue
		}
		both := Pool{Networks: maps.Clone(p.old.Networks)}
		if both.Networks == nil {
			both.Networks = map[string]Subnet{}
		}
		maps.Copy(both.Networks, p.pool.Networks)
		prefix, err := both.subnet(l.Network, l.Subnet, p.routes)
		if err != nil {
			p.fault(c, err)
			continue
		}
		s := Subnet{Prefix: prefix, Addresses: map[string]netip.Addr{}}
		if old, ok := p.old.Networks[l.Network]; ok && old.Prefix == prefix {
			maps.Copy(s.Addresses, old.Addresses)
		}
		p.pool.Networks[l.Network] = s
		p.bridges[l.Network] = &Bridge{
			Network: l.Network, Link: linkName("net-", l.Network), Internal: l.Internal, MTU: l.MTU,
			Gateway: netip.PrefixFrom(gateway(prefix), prefix.Bits()),
		}
	}
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
	for name, s := range p.pool.Networks {
		maps.DeleteFunc(s.Addresses, func(id string, _ netip.Addr) bool { return !there[name][id] })
	}
	slices.SortStableFunc(places, func(a, b place) int { return rank(a.l, p, a.c) - rank(b.l, p, b.c) })
	for _, at := range places {
		s := p.pool.Networks[at.l.Network]
		a, err := s.address(at.c.ID(), at.l.Address)
		if err != nil {
			delete(s.Addresses, at.c.ID())
			p.fault(at.c, err)
			continue
		}
		s.Addresses[at.c.ID()] = a
		b := p.bridges[at.l.Network]
		b.Ends = append(b.Ends, End{
			Container: at.c.ID(), Link: linkName("ve-", at.c.ID()+" "+at.l.Network), Inside: fmt.Sprintf("eth%d", at.i),
			Address: a, Default: at.i == outward(at.c), Names: names(at.c, at.l), Device: asksForDevice(at.c),
		})
	}
	for _, b := range p.bridges {
		slices.SortFunc(b.Ends, func(x, y End) int { return strings.Compare(x.Container, y.Container) })
	}
}

func rank(l app.Link, p *planner, c app.Container) int {
	if l.Address != "" {
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
func (p *planner) ports(c app.Container, others []Forward, listeners []Listener) []Forward {
	var out []Forward
	if len(c.Ports) > 0 && outward(c) < 0 {
		p.fault(c,
			errors.New("its networks are internal, so no port of it is published: remove ports or add a network"))
		return nil
	}
	for _, port := range c.Ports {
		b, to := p.reach(c)
		if !to.IsValid() {
			return nil // the fault is recorded already
		}
		if who := holder(port, others, listeners); who != "" {
			p.fault(c, fmt.Errorf("port %s is taken by %s: publish another one", port, who))
			continue
		}
		out = append(out, Forward{Port: port, Container: c.ID(), Bridge: b, To: to})
	}
	return out
}

// reach returns the link and address to which published ports lead: those of the network that leads out.
func (p *planner) reach(c app.Container) (string, netip.Addr) {
	b := p.bridges[c.Links[outward(c)].Network]
	if b == nil {
		return "", netip.Addr{}
	}
	return b.Link, p.pool.Networks[b.Network].Addresses[c.ID()]
}

// holder names who has one of the ports; "" if nobody has.
func holder(port app.Port, others []Forward, listeners []Listener) string {
	for _, o := range others {
		if o.Protocol == port.Protocol && o.First <= port.Last && port.First <= o.Last && (o.Address == "" ||
			port.Address == "" || o.Address == port.Address) {
			name, service, _ := strings.Cut(o.Container, ".")
			return fmt.Sprintf("app %s, service %s", name, service)
		}
	}
	for _, l := range listeners {
		if l.Protocol != port.Protocol || l.Port < port.First || l.Port > port.Last {
			continue
		}
		if port.Address == "" || l.Address.IsUnspecified() || l.Address.Unmap().String() == port.Address {
			return "the device: " + l.Who
		}
	}
	return ""
}
