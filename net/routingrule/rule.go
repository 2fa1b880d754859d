// Package routingrule owns our routing rules in the kernel: they decide which table a packet's route is looked up in.
//
// It never changes a rule of others: ours have the protocol number link.Protocol. Read first: Rule, then Apply.
package routingrule

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"resinos/net/link"
)

// Rule is a routing rule: which table a packet's route is looked up in. Rules belong to the device, not to a link.
type Rule struct {
	Six            bool
	Priority       int
	Not            bool
	From, To       netip.Prefix // not valid: any
	IIF, OIF       string
	TOS, Protocol  int
	SPort, DPort   [2]uint16 // a range; 0: any
	Mark, Mask     uint32
	UIDs           [2]uint32
	HasUIDs        bool
	Table          int
	SuppressPrefix int   // -1: not
	Action         uint8 // FR_ACT_ of linux/fib_rules.h
}

// The actions of rules.
const (
	ToTable     = 1
	Blackhole   = 6
	Unreachable = 7
	Prohibit    = 8
)

// String returns the rule in the words of iproute2.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "priority %d", r.Priority)
	word := func(there bool, format string, args ...any) {
		if there {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	word(r.Six, "ipv6")
	word(r.Not, "not")
	word(r.From.IsValid(), "from %v", r.From)
	word(r.To.IsValid(), "to %v", r.To)
	word(r.IIF != "", "iif %s", r.IIF)
	word(r.OIF != "", "oif %s", r.OIF)
	word(r.TOS != 0, "tos %d", r.TOS)
	word(r.Protocol != 0, "ipproto %d", r.Protocol)
	word(r.SPort[0] != 0, "sport %d-%d", r.SPort[0], r.SPort[1])
	word(r.DPort[0] != 0, "dport %d-%d", r.DPort[0], r.DPort[1])
	word(r.Mask != 0, "fwmark %#x/%#x", r.Mark, r.Mask)
	word(r.HasUIDs, "uidrange %d-%d", r.UIDs[0], r.UIDs[1])
	word(r.Table != 0, "table %d", r.Table)
	word(r.SuppressPrefix >= 0, "suppress_prefixlength %d", r.SuppressPrefix)
	word(r.Action == Blackhole, "blackhole")
	word(r.Action == Unreachable, "unreachable")
	word(r.Action == Prohibit, "prohibit")
	return b.String()
}

// Apply makes our rules of the device those that are wanted, and returns what it did, one line for each change. The
// rules of others stay.
func Apply(wanted []Rule) (done []string, err error) {
	var faults []error
	var have []Rule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := netlink.RuleListFiltered(family, nil, 0)
		actions, err2 := ruleActions(family)
		if err = errors.Join(err, err2); err != nil {
			faults = append(faults, fmt.Errorf("list rules: %w", err))
			continue
		}
		for _, one := range list {
			if one.Protocol != link.Protocol {
				continue
			}
			one.Type = actions[one.Priority]
			r := fromNetlink(one, family)
			if slices.Contains(wanted, r) {
				have = append(have, r)
				continue
			}
			done = append(done, "remove rule "+r.String())
			one.Family = family
			faults = append(faults, unless(netlink.RuleDel(&one), unix.ENOENT))
		}
	}
	for _, r := range wanted {
		if slices.Contains(have, r) {
			continue
		}
		have = append(have, r)
		done = append(done, "put rule "+r.String())
		if err := unless(netlink.RuleAdd(r.netlink()), unix.EEXIST); err != nil {
			faults = append(faults, fmt.Errorf("put rule %s: %w", r, err))
		}
	}
	return done, errors.Join(faults...)
}

// ruleActions returns the action of each rule by its priority, which the library does not read.
func ruleActions(family int) (map[int]uint8, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(family))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	if err != nil {
		return nil, err
	}
	out := map[int]uint8{}
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			if a.Attr.Type == nl.FRA_PRIORITY && len(a.Value) >= 4 {
				out[int(binary.NativeEndian.Uint32(a.Value))] = nl.DeserializeRtMsg(m).Type
			}
		}
	}
	return out, nil
}

func (r Rule) netlink() *netlink.Rule {
	out := netlink.NewRule()
	out.Family = unix.AF_INET
	if r.Six {
		out.Family = unix.AF_INET6
	}
	out.Priority, out.Invert, out.IifName, out.OifName = r.Priority, r.Not, r.IIF, r.OIF
	out.Tos, out.IPProto, out.Table, out.SuppressPrefixlen = uint(r.TOS), r.Protocol, r.Table, r.SuppressPrefix
	out.Protocol, out.Type = link.Protocol, r.Action
	if r.From.IsValid() {
		out.Src = netOf(r.From)
	}
	if r.To.IsValid() {
		out.Dst = netOf(r.To)
	}
	if r.SPort[0] != 0 {
		out.Sport = netlink.NewRulePortRange(r.SPort[0], r.SPort[1])
	}
	if r.DPort[0] != 0 {
		out.Dport = netlink.NewRulePortRange(r.DPort[0], r.DPort[1])
	}
	if r.Mask != 0 {
		out.Mark, out.Mask = r.Mark, &r.Mask
	}
	if r.HasUIDs {
		out.UIDRange = netlink.NewRuleUIDRange(r.UIDs[0], r.UIDs[1])
	}
	return out
}

func fromNetlink(n netlink.Rule, family int) Rule {
	r := Rule{
		Six: family == unix.AF_INET6, Priority: n.Priority, Not: n.Invert, IIF: n.IifName, OIF: n.OifName,
		TOS:      int(n.Tos),
		Protocol: max(n.IPProto, 0), Table: max(n.Table, 0), SuppressPrefix: n.SuppressPrefixlen, Action: n.Type,
		Mark: n.Mark,
	}
	if n.Src != nil {
		r.From = prefixOf(n.Src)
	}
	if n.Dst != nil {
		r.To = prefixOf(n.Dst)
	}
	if n.Sport != nil {
		r.SPort = [2]uint16{n.Sport.Start, n.Sport.End}
	}
	if n.Dport != nil {
		r.DPort = [2]uint16{n.Dport.Start, n.Dport.End}
	}
	if n.Mask != nil {
		r.Mask = *n.Mask
	}
	if n.UIDRange != nil {
		r.UIDs, r.HasUIDs = [2]uint32{n.UIDRange.Start, n.UIDRange.End}, true
	}
	return r
}

// unless drops the one error that means that the work is done already.
func unless(err error, done unix.Errno) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}
