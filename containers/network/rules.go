package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"resinos/net/ruleset/part"
)

// Chain is a place in a packet's way through the kernel.
type Chain string

// The chains of our table. Each is at the hook of its name, except Published, to which two of them jump.
const (
	early       Chain = "early" // prerouting, before connections are known
	prerouting  Chain = "prerouting"
	output      Chain = "output"
	published   Chain = "published"
	input       Chain = "input"
	forward     Chain = "forward"
	postrouting Chain = "postrouting"
)

// Rule is one rule of the packet filter; empty fields match everything.
type Rule struct {
	Chain           Chain
	In, Out         string // links
	InKind, OutKind bool   // the link is not hardware: a bridge, a tunnel
	Src, Dst        netip.Prefix
	Local           bool // the destination is an address of the device
	Protocol        string
	First, Last     uint16 // ports of the destination
	Known           bool   // belongs to a connection that was accepted
	Redirected      bool   // belongs to a connection to a published port
	ICMP            bool
	Allowed         bool // a shared link allows it (net/sharing)
	Six             bool // it is of the table of IPv6
	Do              Verdict
	To              netip.Addr // of dnat
	Port            uint16     // of dnat; 0: unchanged
}

// Verdict is what happens to a packet that matches.
type Verdict string

// The verdicts.
const (
	accept     Verdict = "accept"
	drop       Verdict = "drop"
	masquerade Verdict = "masquerade"
	dnat       Verdict = "dnat"
	jump       Verdict = "jump published"
)

// String returns the rule in the words of nft(8).
func (r Rule) String() string {
	var b strings.Builder
	add := func(given bool, format string, args ...any) {
		if given {
			fmt.Fprintf(&b, format+" ", args...)
		}
	}
	add(r.In != "", "iifname %s", r.In)
	add(r.InKind, `iifkind != ""`)
	add(r.Out != "", "oifname %s", r.Out)
	add(r.OutKind, `oifkind != ""`)
	family, icmp := "ip", "ip protocol icmp"
	if r.Six {
		family, icmp = "ip6", "meta l4proto icmpv6"
	}
	add(r.Src.IsValid(), "%s saddr %s", family, r.Src)
	add(r.Dst.IsValid(), "%s daddr %s", family, r.Dst)
	add(r.Local, "fib daddr type local")
	add(r.ICMP, "%s", icmp)
	add(r.Protocol != "" && r.First == r.Last, "%s dport %d", r.Protocol, r.First)
	add(r.Protocol != "" && r.First != r.Last, "%s dport %d-%d", r.Protocol, r.First, r.Last)
	add(r.Known, "ct state established,related")
	add(r.Redirected, "ct status dnat")
	add(r.Allowed, "meta mark & 0x%08x != 0", part.Allowed)
	b.WriteString(string(r.Do))
	if r.Do == dnat {
		to := r.To.String()
		if r.Six {
			to = "[" + to + "]"
		}
		fmt.Fprintf(&b, " to %s", to)
		if r.Port != 0 {
			fmt.Fprintf(&b, ":%d", r.Port)
		}
	}
	return string(r.Chain) + ": " + b.String()
}

var loopback, loopback6 = netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")

// Rules returns the rules of a layout for both families, in their order; those of IPv6 have Six. They do not depend on
// which containers run: a container that is started again needs no change of them.
func Rules(l Layout) []Rule {
	six := familyRules(l.six())
	for i := range six {
		six[i].Six = true
	}
	return append(familyRules(l.four()), six...)
}

// four is the layout without the ports of IPv6.
func (l Layout) four() Layout {
	return Layout{Bridges: l.Bridges, Ports: slices.DeleteFunc(slices.Clone(l.Ports), func(f Forward) bool {
		return f.To.Is6()
	})}
}

// six is the layout of IPv6, as if there were nothing else: networks without it are not there.
func (l Layout) six() (out Layout) {
	for _, b := range l.Bridges {
		if !b.Gateway6.IsValid() {
			continue
		}
		b.Gateway, b.Ends = b.Gateway6, slices.Clone(b.Ends)
		for i := range b.Ends {
			b.Ends[i].Address = b.Ends[i].Address6
		}
		out.Bridges = append(out.Bridges, b)
	}
	out.Ports = slices.DeleteFunc(slices.Clone(l.Ports), func(f Forward) bool { return f.To.Is4() })
	return out
}

// single is a prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func familyRules(l Layout) []Rule {
	if len(l.Bridges) == 0 {
		return nil
	}
	var rules []Rule
	for _, b := range l.Bridges {
		// an app that publishes port 53 must not become the resolver of all others
		own := single(b.Gateway.Addr())
		rules = append(rules,
			Rule{Chain: prerouting, In: b.Link, Dst: own, Protocol: "udp", First: namePort, Last: namePort, Do: accept},
			Rule{Chain: prerouting, In: b.Link, Dst: own, Protocol: "tcp", First: namePort, Last: namePort, Do: accept})
		if b.Internal { // published ports of others are outside too
			rules = append(rules, Rule{Chain: prerouting, In: b.Link, Do: accept})
		}
	}
	rules = append(rules, []Rule{
		{Chain: prerouting, Local: true, Do: jump},
		{Chain: output, Local: true, Do: jump},
		{Chain: forward, Known: true, Do: accept},
		{Chain: forward, Redirected: true, Do: accept},
		{Chain: input, Known: true, Do: accept},
	}...)
	for _, f := range l.Ports {
		rules = append(rules, forwards(f)...)
	}
	for _, b := range l.Bridges {
		rules = append(rules, bridgeRules(b)...)
	}
	rules = append(rules, sources(l.Bridges)...)
	for _, b := range l.Bridges { // after all rules that accept: what comes from a network of another app ends here
		rules = append(rules, Rule{Chain: forward, Out: b.Link, Do: drop})
	}
	for _, b := range l.Bridges {
		if !b.Internal {
			rules = append(rules, Rule{Chain: forward, In: b.Link, Do: accept})
		}
		rules = append(rules, Rule{Chain: forward, In: b.Link, Do: drop})
	}
	// Forwarding of packets is enabled for our networks. Between links of hardware packets are
	// still not forwarded, unless one of them is shared.
	return append(rules,
		Rule{Chain: forward, InKind: true, Do: accept},
		Rule{Chain: forward, OutKind: true, Do: accept},
		Rule{Chain: forward, Allowed: true, Do: accept},
		Rule{Chain: forward, Do: drop},
	)
}

// forwards returns the rules that forward the ports of f to the container. In a range the kernel keeps ports that do
// not change; others need a rule each.
func forwards(f Forward) []Rule {
	r := Rule{Chain: published, Protocol: f.Protocol, First: f.First, Last: f.Last, Do: dnat, To: f.To}
	if a, err := netip.ParseAddr(f.Address); err == nil && !a.IsUnspecified() {
		r.Dst = single(a)
	}
	if f.First == f.Target {
		return []Rule{r}
	}
	var out []Rule
	for i := 0; i <= int(f.Last-f.First); i++ {
		r.First, r.Last, r.Port = f.First+uint16(i), f.First+uint16(i), f.Target+uint16(i)
		out = append(out, r)
	}
	return out
}

var multicast6, linkLocal6 = netip.MustParsePrefix("ff02::/16"), netip.MustParsePrefix("fe80::/10")

func loopbackOf(b Bridge) netip.Prefix {
	if b.Gateway.Addr().Is6() {
		return loopback6
	}
	return loopback
}

func bridgeRules(b Bridge) []Rule {
	own := single(b.Gateway.Addr())
	rules := []Rule{
		// route_localnet lets the device itself reach published ports at 127.0.0.1, and must not let others
		{Chain: early, In: b.Link, Dst: loopbackOf(b), Do: drop},
		{Chain: input, In: b.Link, Dst: own, Protocol: "udp", First: namePort, Last: namePort, Do: accept},
		{Chain: input, In: b.Link, Dst: own, Protocol: "tcp", First: namePort, Last: namePort, Do: accept},
		{Chain: input, In: b.Link, Dst: own, ICMP: true, Do: accept},
	}
	if b.Gateway.Addr().Is6() { // neighbours ask for each other so, and for the device
		rules = append(rules, Rule{Chain: input, In: b.Link, Dst: multicast6, ICMP: true, Do: accept},
			Rule{Chain: input, In: b.Link, Dst: linkLocal6, ICMP: true, Do: accept})
	}
	for _, e := range b.Ends {
		if e.Device {
			rules = append(rules, Rule{Chain: input, In: b.Link, Src: single(e.Address), Do: accept})
		}
	}
	if !b.Internal { // connections that are led through a proxy arrive at the device (net/proxy)
		rules = append(rules, Rule{Chain: input, In: b.Link, Allowed: true, Do: accept})
	}
	rules = append(rules,
		Rule{Chain: input, In: b.Link, Do: drop},
		Rule{Chain: forward, In: b.Link, Out: b.Link, Do: accept},
	)
	return rules
}

// sources returns the rules that change the source of packets where the answer would not find its way back; the source
// of a client of a published port stays.
func sources(bridges []Bridge) []Rule {
	var rules []Rule
	for _, b := range bridges {
		rules = append(rules,
			Rule{Chain: postrouting, Out: b.Link, Src: loopbackOf(b), Do: masquerade},
			// otherwise the neighbour would answer directly
			Rule{Chain: postrouting, Out: b.Link, Src: b.Gateway.Masked(), Redirected: true, Do: masquerade},
			Rule{Chain: postrouting, Out: b.Link, Do: accept},
		)
	}
	for _, b := range bridges {
		if !b.Internal {
			rules = append(rules, Rule{Chain: postrouting, Src: b.Gateway.Masked(), Do: masquerade})
		}
	}
	return rules
}
