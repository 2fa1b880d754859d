// Package filter owns the device's packet filter: which packets reach the device itself, in a table of its own. What is
// allowed where, and why, is in docs/decisions/0042-packet-filter.md.
//
// Plan is pure. The table stays in the kernel when the process ends, and tables of others are never touched. Read Wish
// first, then Plan.
package filter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/net/ruleset"
	"resinos/net/ruleset/part"
)

// TableName is the name of our table of the packet filter.
const TableName = "resinos-filter"

// sshPort is the port of the remote shell.
const sshPort = 22222

// The priorities of our chains. The first is before connections are known, and before what others redirect; the last is
// behind chains of the usual priority, 0, so that owners can mark there what they allow.
const (
	early = -310
	late  = 10
)

// Wish is what the filter depends on.
type Wish struct {
	Closed  bool     // only what is allowed reaches the device: production
	SSH     bool     // the port of the remote shell is open
	Links   []string // that netd configures
	Shared  []string // those of them that are shared
	Tunnels []string // those of them that are tunnels
	Listens []uint16 // the UDP ports of tunnels that others may open
	Ports   []Ports  // that the owner opens
	Groups  []Group  // of containers: whatever listens in them may be reached
}

// Ports are ports of the device.
type Ports struct {
	Protocol    string // tcp or udp
	First, Last uint16
}

// Group is a cgroup.
type Group struct {
	Path string // relative to the top of the file system of cgroups
	ID   uint64 // the number of its inode
}

// ParsePorts reads ports like tcp:8080 or udp:5000-5010. What cannot be read is skipped: whoever published the setting
// has reported it to the owner.
func ParsePorts(words []string) (out []Ports) {
	for _, w := range words {
		protocol, text, _ := strings.Cut(w, ":")
		first, last, several := strings.Cut(text, "-")
		if !several {
			last = first
		}
		low, errLow := strconv.ParseUint(first, 10, 16)
		high, errHigh := strconv.ParseUint(last, 10, 16)
		if (protocol == "tcp" || protocol == "udp") && errLow == nil && errHigh == nil && 0 < low && low <= high {
			out = append(out, Ports{protocol, uint16(low), uint16(high)})
		}
	}
	return out
}

// The rates above which packets are dropped.
func rates() (echo, logins part.Rate) {
	return part.Rate{Packets: 50, Burst: 100}, part.Rate{Packets: 60, Minute: true, Burst: 30}
}

// Plan returns the table.
func Plan(w Wish) ruleset.Table {
	ssh4 := part.Meter{Name: "ssh4", Size: 4096, Idle: time.Minute}
	ssh6 := part.Meter{Name: "ssh6", Six: true, Size: 4096, Idle: time.Minute}
	t := ruleset.Table{Family: ruleset.Inet, Name: TableName, Meters: []part.Meter{ssh4, ssh6}}
	t.Chains = append(t.Chains, invented(w), arriving(w, ssh4, ssh6))
	if w.Closed || len(w.Tunnels) > 0 {
		t.Chains = append(t.Chains, passing(w))
	}
	return t
}

var (
	loopback4, loopback6   = netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	nobody, nobody6        = netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::/128")
	linkLocal6, multicast6 = netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8")
)

// invented drops packets with sources that cannot be true, on their way to the device and through it.
func invented(w Wish) ruleset.Chain {
	c := ruleset.Chain{Name: "invented", Kind: "filter", Hook: "prerouting", Priority: early, Rules: []ruleset.Rule{
		{part.In("lo"), part.Do("accept")},
		{part.From(loopback4), part.Do("drop")},
		{part.To(loopback4), part.Do("drop")},
		{part.From(loopback6), part.Do("drop")},
		{part.To(loopback6), part.Do("drop")},
		{part.From(multicast6), part.Do("drop")},
		// The kernel counts 0.0.0.0 among the broadcasts: those ask for an address, these for groups.
		{part.From(nobody), part.Port("udp", 67, 67), part.Do("accept")},
		{part.From(nobody), part.Protocol("igmp"), part.Do("accept")},
		{part.From(nobody6), part.Protocol("ipv6-icmp"), part.Do("accept")}, // those look whether an address is taken
		{part.Kind("saddr", "multicast"), part.Do("drop")},
		{part.Kind("saddr", "broadcast"), part.Do("drop")},
		{part.Kind("saddr", "local"), part.Kind("daddr", "local"), part.Do("drop")}, // its own come over lo
		{part.From(linkLocal6), part.Do("accept")},                                  // each link has a route to these
	}}
	for _, l := range w.Links {
		c.Rules = append(c.Rules, ruleset.Rule{part.In(l), part.NoWayBack(), part.Do("drop")},
			ruleset.Rule{part.In(l), part.WayBack("net-*"), part.Do("drop")}) // an address of a container
	}
	for _, l := range w.Shared {
		c.Rules = append(c.Rules, ruleset.Rule{part.NotIn(l), part.WayBack(l), part.Do("drop")}) // of a guest
	}
	return c
}

// arriving decides about packets for the device itself.
func arriving(w Wish, ssh4, ssh6 part.Meter) ruleset.Chain {
	c := ruleset.Chain{Name: "arriving", Kind: "filter", Hook: "input", Priority: late}
	add := func(parts ...part.Part) { c.Rules = append(c.Rules, parts) }
	accept, drop := part.Do("accept"), part.Do("drop")
	echo, logins := rates()
	add(part.In("lo"), accept)
	add(part.Marked(part.Allowed), accept)
	add(part.Connection("established", "related"), accept)
	add(part.Connection("invalid"), drop)
	for _, six := range []bool{false, true} {
		add(part.EchoRequest(six), part.Over(echo), drop)
	}
	login := part.Port("tcp", sshPort, sshPort)
	for _, m := range []part.Meter{ssh4, ssh6} {
		add(part.Connection("new"), login, part.OverEach(m, logins), drop)
	}
	if !w.Closed {
		return c
	}
	add(part.In("net-*"), accept) // networks of containers: their own chain decides (containers/network)
	add(part.Protocol("icmp"), accept)
	add(part.Protocol("ipv6-icmp"), accept)
	add(part.Protocol("igmp"), accept)
	add(part.Port("udp", 5353, 5353), accept)                      // mDNS: the device's name, and the names of others
	add(part.From(linkLocal6), part.Port("udp", 546, 546), accept) // answers of DHCPv6
	if w.SSH {
		add(login, accept)
	}
	for _, l := range w.Shared {
		add(part.In(l), part.Port("udp", 67, 67), accept)
		add(part.In(l), part.Port("udp", 53, 53), accept)
		add(part.In(l), part.Port("tcp", 53, 53), accept)
	}
	for _, p := range w.Listens {
		add(part.Port("udp", p, p), accept)
	}
	for _, p := range w.Ports {
		add(part.Port(p.Protocol, p.First, p.Last), accept)
	}
	for _, g := range w.Groups {
		add(part.Group(g.Path, g.ID), accept)
	}
	add(drop)
	return c
}

// passing decides about packets through the device. From a tunnel only what is marked passes, and what is for a
// published port. Where the filter is closed, so it is between links of hardware, and only containers reach a tunnel.
func passing(w Wish) ruleset.Chain {
	c := ruleset.Chain{Name: "passing", Kind: "filter", Hook: "forward", Priority: late}
	add := func(parts ...part.Part) { c.Rules = append(c.Rules, parts) }
	accept, drop := part.Do("accept"), part.Do("drop")
	add(part.Marked(part.Allowed), accept)
	if len(w.Tunnels) > 0 {
		add(part.Connection("established", "related"), accept)
		add(part.Connection("dnat"), accept)
	}
	for _, l := range w.Tunnels {
		add(part.In(l), drop)
	}
	if !w.Closed {
		return c
	}
	if len(w.Tunnels) > 0 {
		add(part.In("net-*"), accept)
	}
	for _, l := range w.Tunnels {
		add(part.Out(l), drop)
	}
	add(part.Virtual("iif"), accept)
	add(part.Virtual("oif"), accept)
	add(drop)
	return c
}

// equal reports whether two wishes give the same table.
func (w Wish) equal(o Wish) bool {
	return w.Closed == o.Closed && w.SSH == o.SSH && slices.Equal(w.Links, o.Links) &&
		slices.Equal(w.Shared, o.Shared) && slices.Equal(w.Ports, o.Ports) &&
		slices.Equal(w.Tunnels, o.Tunnels) && slices.Equal(w.Listens, o.Listens) && slices.Equal(w.Groups, o.Groups)
}
