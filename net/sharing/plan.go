package sharing

import (
	"crypto/sha256"
	"net/netip"
	"slices"

	"resinos/net/netstate"
	"resinos/net/ruleset"
	"resinos/net/ruleset/part"
)

// TableName is the name of our table of the packet filter.
const TableName = "resinos-sharing"

// beforeFilter is the priority of our chain: it marks packets before chains of the usual priority, 0, see them.
const beforeFilter = -10

// containers is the beginning of the names of the containers' networks (containers/network).
const containers = "net-*"

// Plan returns the tables for these links, those of IPv4 and IPv6. From a shared link, packets with an address of its
// network go everywhere but to other shared links. To a shared link go answers, and what containers send: a gateway's
// containers read what is connected to it. Between other links of hardware nothing is forwarded, although the kernel is
// a router now. A table without links has no chains.
func Plan(links []Link) [2]ruleset.Table {
	return [2]ruleset.Table{
		table(ruleset.IPv4, links, func(l Link) (netip.Prefix, []netstate.Network) { return l.Own, nil }),
		table(ruleset.IPv6, links, func(l Link) (netip.Prefix, []netstate.Network) { return l.Six, l.Delegated }),
	}
}

// table returns the table of one protocol: networks returns the own network of a link, and those of delegated prefixes.
// Addresses that count within the owner's networks only, as all those of IPv4, leave as one of the device's own; those
// of a delegated prefix never do, because its server knows the way to them.
func table(family ruleset.Family, links []Link, networks func(Link) (netip.Prefix, []netstate.Network)) ruleset.Table {
	links = slices.DeleteFunc(slices.Clone(links), func(l Link) bool { own, _ := networks(l); return !own.IsValid() })
	if len(links) == 0 {
		return ruleset.Table{Family: family, Name: TableName}
	}
	forward := ruleset.Chain{Name: "forward", Kind: "filter", Hook: "forward", Priority: beforeFilter}
	leaving := ruleset.Chain{Name: "leaving"}
	source := ruleset.Chain{Name: "postrouting", Kind: "nat", Hook: "postrouting", Priority: 100}
	add := func(parts ...part.Part) { forward.Rules = append(forward.Rules, parts) }
	allow := ruleset.Rule{part.Mark(part.Allowed), part.Do("accept")}
	for _, l := range links {
		add(append(ruleset.Rule{part.Out(l.Name), part.Connection("established", "related")}, allow...)...)
	}
	for _, l := range links {
		own, delegated := networks(l)
		network := own.Masked()
		add(append(ruleset.Rule{part.In(l.Name), part.Out(l.Name)}, allow...)...)
		add(part.In(l.Name), part.From(network), part.Do("jump leaving"))
		for _, n := range delegated {
			if n.Valid != 0 {
				add(part.In(l.Name), part.From(n.Prefix), part.Do("jump leaving"))
			}
		}
		add(part.In(l.Name), part.Do("drop"))
		leaving.Rules = append(leaving.Rules, ruleset.Rule{part.Out(l.Name), part.Do("drop")})
		if family == ruleset.IPv4 || network.Addr().IsPrivate() {
			source.Rules = append(source.Rules,
				ruleset.Rule{part.From(network), part.NotTo(network), part.Do("masquerade")})
		}
	}
	leaving.Rules = append(leaving.Rules, allow)
	add(append(ruleset.Rule{part.In(containers)}, allow...)...)
	for _, l := range links {
		add(part.Out(l.Name), part.Do("drop"))
	}
	add(part.Virtual("iif"), part.Do("accept")) // tunnels: others decide about them
	add(part.Virtual("oif"), part.Do("accept"))
	add(part.Do("drop"))
	return ruleset.Table{Family: family, Name: TableName, Chains: []ruleset.Chain{leaving, forward, source}}
}

// Choose returns the network of a shared link whose owner names none, with the device's address in it: 10.42.N.1/24, as
// NetworkManager does. own are the addresses that the link has, others those of all other links.
func Choose(own, others []netip.Prefix) netip.Prefix {
	free := func(p netip.Prefix) bool {
		return !slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Overlaps(p) })
	}
	nth := func(n int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(n), 1}), 24) }
	for n := range 256 {
		if slices.Contains(own, nth(n)) && free(nth(n)) {
			return nth(n)
		}
	}
	for n := range 256 {
		if free(nth(n)) {
			return nth(n)
		}
	}
	return nth(0) // every network is in use
}

// Local returns the network of IPv6 of a shared link whose owner names none, with the device's address in it:
// fdXX:…::1/64 (RFC 4193), which is the same in each boot. identity is a text that is the device's own.
func Local(identity, link string) netip.Prefix {
	site := sha256.Sum256([]byte("shared site\x00" + identity))
	subnet := sha256.Sum256([]byte("shared link\x00" + identity + "\x00" + link))
	a := [16]byte{0: 0xfd, 15: 1}
	copy(a[1:6], site[:])
	copy(a[6:8], subnet[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
