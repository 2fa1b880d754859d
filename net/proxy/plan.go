package proxy

import (
	"fmt"
	"net/netip"

	"resinos/net/redsocks"
	"resinos/net/ruleset"
	"resinos/net/ruleset/part"
)

// TableName is the name of our table of the packet filter.
const TableName = "resinos-proxy"

// afterPublished is the priority of our chains: behind those that lead to published ports of containers, which count.
const afterPublished = -90

// containerLinks are the beginnings of the names of containers' networks: ours (containers/network), and Docker's.
func containerLinks() []string { return []string{"net-*", "docker0", "br-*"} }

// local are the networks that are never reached through a proxy: those that no router of the Internet leads to.
func local() (out []netip.Prefix) {
	for _, text := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
		"172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::1/128", "fc00::/7", "fe80::/10",
		"ff00::/8"} {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// Plan returns the table for these files: what a connection of the device, and if the owner wants it of a container,
// has to be to arrive at the proxy service. Connections with the mark part.Direct are the service's own.
func Plan(conf redsocks.Config, beside []netip.Prefix) ruleset.Table {
	own := ruleset.Chain{Name: "own", Kind: "nat", Hook: "output", Priority: afterPublished}
	own.Rules = append(own.Rules, ruleset.Rule{part.Marked(part.Direct), part.Do("return")},
		ruleset.Rule{part.Do("jump choose")})
	t := ruleset.Table{Family: ruleset.Inet, Name: TableName, Chains: []ruleset.Chain{choose(conf, beside), own}}
	if !conf.Containers {
		return t
	}
	foreign := ruleset.Chain{Name: "containers", Kind: "nat", Hook: "prerouting", Priority: afterPublished}
	for _, link := range containerLinks() {
		foreign.Rules = append(foreign.Rules, ruleset.Rule{part.In(link), part.Do("jump choose")})
	}
	t.Chains = append(t.Chains, foreign, arriving(conf))
	return t
}

// beforeFilter is the priority of the chain that marks: before chains of the usual priority, 0, see the packet.
const beforeFilter = -10

// arriving lets containers reach the service, and nobody else: then it listens on all addresses. The mark makes the
// chains pass that drop what is not allowed.
func arriving(conf redsocks.Config) ruleset.Chain {
	c := ruleset.Chain{Name: "arriving", Kind: "filter", Hook: "input", Priority: beforeFilter}
	ports := []part.Part{part.Port("tcp", conf.Port, conf.Port)}
	if conf.Names != nil {
		ports = append(ports, part.Port("udp", conf.Names.Port, conf.Names.Port))
	}
	for _, port := range ports {
		for _, link := range containerLinks() {
			c.Rules = append(c.Rules, ruleset.Rule{part.In(link), port, part.Mark(part.Allowed), part.Do("accept")})
		}
		c.Rules = append(c.Rules, ruleset.Rule{part.NotIn("lo"), port, part.Do("drop")})
	}
	return c
}

// choose leads what is meant for the proxy to the service.
func choose(conf redsocks.Config, beside []netip.Prefix) ruleset.Chain {
	c := ruleset.Chain{Name: "choose"}
	add := func(parts ...part.Part) { c.Rules = append(c.Rules, parts) }
	back := part.Do("return")
	add(part.Kind("daddr", "local"), back)
	add(part.Kind("daddr", "broadcast"), back)
	add(part.Kind("daddr", "multicast"), back)
	for _, p := range beside {
		add(part.To(p), back)
	}
	if conf.Names != nil {
		add(part.Port("udp", 53, 53), part.Do(fmt.Sprintf("redirect to :%d", conf.Names.Port)))
	}
	for _, p := range local() {
		add(part.To(p), back)
	}
	if a, err := netip.ParseAddr(conf.Server.Host); err == nil { // a program that speaks with the proxy by itself
		port := conf.Server.Port
		add(part.To(netip.PrefixFrom(a, a.BitLen())), part.Port("tcp", port, port), back)
	}
	what := part.Protocol("tcp")
	if conf.Server.Type == redsocks.Relay {
		what = part.Port("tcp", 80, 80)
	}
	add(what, part.Do(fmt.Sprintf("redirect to :%d", conf.Port)))
	return c
}
