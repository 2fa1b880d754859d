package ownlink

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/assignment"
	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// wanted returns the link that a profile asks for. created is false if profiles of its type create none; why says what
// the link waits for, or what is wrong with the profile.
func (p *planner) wanted(e assignment.Entry) (w wanted, created bool, why string) {
	w = wanted{file: e.File, name: e.Profile.LinkName(), kind: e.Profile.Connection.Type}
	switch {
	case w.kind == profile.TypeBridge && e.Profile.Bridge != nil:
		b := e.Profile.Bridge
		w.options = bridgeOptions(b)
		if b.VLANFiltering {
			var wrong string
			if w.vlans, wrong = vlansOf(b.VLANs, b.VLANDefaultPVID); wrong != "" {
				p.Faults[e.File] = "[bridge] vlans: " + wrong
			}
		}
	case w.kind == profile.TypeBond && e.Profile.Bond != nil:
		w.options = p.bondOptions(e.Profile.Bond)
	case w.kind == profile.TypeVLAN && e.Profile.VLAN != nil:
		w.options = vlanOptions(e.Profile.VLAN)
		w.parent, why = p.parent(e.Profile)
	case w.kind == profile.TypeDummy, w.kind == profile.TypeWireGuard:
	default:
		return w, false, ""
	}
	if w.name == "" {
		why = "[connection] interface-name is missing: the link needs a name to be created"
	}
	return w, true, why
}

// parent finds the link that a vlan is on, which its profile names by the link, by the UUID of the profile that the
// link has, or by its hardware address.
func (p *planner) parent(vlan profile.Profile) (index int, why string) {
	name := vlan.VLAN.Parent
	for _, e := range p.entries {
		if c := e.Profile.Connection; c.UUID != "" && c.UUID == strings.ToLower(name) {
			name = cmp.Or(e.Profile.LinkName(), name)
		}
	}
	for _, a := range p.actual {
		byAddress := name == "" && vlan.Ethernet != nil && a.Kind == "" && a.Hardware == string(vlan.Ethernet.MAC)
		if a.Name == name || byAddress {
			return a.Index, ""
		}
	}
	if name == "" {
		return 0, "waits for the link with the address " + string(vlan.Ethernet.MAC)
	}
	return 0, "waits for the link " + name
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func byte1(name string, n uint16, v int64) option {
	return option{name: name, number: n, value: []byte{byte(v)}, text: number(v)}
}

func byte2(name string, n uint16, v int64) option {
	return option{name: name, number: n, value: binary.NativeEndian.AppendUint16(nil, uint16(v)), text: number(v)}
}

func byte4(name string, n uint16, v int64) option {
	return option{name: name, number: n, value: binary.NativeEndian.AppendUint32(nil, uint32(v)), text: number(v)}
}

func byte8(name string, n uint16, v uint64) option {
	value := binary.NativeEndian.AppendUint64(nil, v)
	return option{name: name, number: n, value: value, text: strconv.FormatUint(v, 10)}
}

func flag(name string, n uint16, v bool) option {
	o := option{name: name, number: n, value: []byte{0}, text: strconv.FormatBool(v)}
	if v {
		o.value[0] = 1
	}
	return o
}

func word(name string, n uint16, v int64, text string) option {
	o := byte1(name, n, v)
	o.text = text
	return o
}

func hardware(name string, n uint16, text string) option {
	mac, _ := net.ParseMAC(text) // profilecheck has judged it
	return option{name: name, number: n, value: mac, text: text}
}

// protocol is the kind of vlan tags, a number in the order of the network.
func protocol(name string, n uint16, text string) option {
	o := option{name: name, number: n, value: []byte{0x81, 0x00}, text: cmp.Or(text, "802.1Q")}
	if text == "802.1ad" {
		o.value = []byte{0x88, 0xa8}
	}
	return o
}

// wide makes an option of one byte one of four.
func wide(o option) option {
	o.value = binary.NativeEndian.AppendUint32(nil, uint32(o.value[0]))
	return o
}

func fixed(o option) option { o.fixed = true; return o }

// Numbers of options that the plan has to know (linux/if_link.h).
const (
	filtering = 7  // IFLA_BR_VLAN_FILTERING
	pvid      = 39 // IFLA_BR_VLAN_DEFAULT_PVID
	pvidKey   = "vlan-default-pvid"
	missedMax = 30 // IFLA_BOND_MISSED_MAX, which the netlink library does not know
)

// bridgeOptions returns the options of a bridge; the numbers are IFLA_BR_*. Times are in hundredths of a second.
// Without STP the kernel refuses some times of NetworkManager, which then mean nothing.
func bridgeOptions(b *profile.Bridge) []option {
	routers := []string{"disabled", "auto", "enabled"}
	router := cmp.Or(b.MulticastRouter, "auto")
	defaultPVID := int64(1)
	if b.VLANFiltering {
		defaultPVID = b.VLANDefaultPVID
	}
	list := []option{
		wide(flag("stp", 5, b.STP)), byte2("priority", 6, b.Priority), byte4("ageing-time", 4, 100*b.AgeingTime),
		byte2("group-forward-mask", 9, b.GroupForwardMask),
		hardware("group-address", 20, cmp.Or(b.GroupAddress, "01:80:C2:00:00:00")),
		flag("multicast-snooping", 23, b.MulticastSnooping),
		word("multicast-router", 22, int64(slices.Index(routers, router)), router),
		flag("multicast-query-use-ifaddr", 24, b.MulticastUseIfaddr),
		flag("multicast-querier", 25, b.MulticastQuerier),
		byte4("multicast-hash-max", 27, b.MulticastHashMax),
		byte4("multicast-last-member-count", 28, b.MulticastLastCount),
		byte4("multicast-startup-query-count", 29, b.MulticastStarts),
		byte8("multicast-last-member-interval", 30, b.MulticastLastTime),
		byte8("multicast-membership-interval", 31, b.MulticastMembers),
		byte8("multicast-querier-interval", 32, b.MulticastQuerying),
		byte8("multicast-query-interval", 33, b.MulticastQueryTime),
		byte8("multicast-query-response-interval", 34, b.MulticastAnswers),
		byte8("multicast-startup-query-interval", 35, b.MulticastStart),
		byte2(pvidKey, pvid, defaultPVID), protocol("vlan-protocol", 8, b.VLANProtocol),
		flag("vlan-stats-enabled", 41, b.VLANStats), flag("vlan-filtering", filtering, b.VLANFiltering),
	}
	if b.STP {
		list = append(list, byte4("forward-delay", 1, 100*b.ForwardDelay), byte4("hello-time", 2, 100*b.HelloTime),
			byte4("max-age", 3, 100*b.MaxAge))
	}
	return list
}

// bridgePort returns the options of a port of a bridge; the numbers are IFLA_BRPORT_*.
func bridgePort(p *profile.Port) []option {
	return []option{
		byte4("path-cost", 3, p.PathCost), byte2("priority", 2, p.Priority), flag("hairpin-mode", 4, p.Hairpin),
	}
}

// bondPort returns the options of a port of a bond; the numbers are IFLA_BOND_SLAVE_*.
func bondPort(p *profile.BondPort) []option {
	priority := byte4("prio", 9, p.Priority)
	priority.unless = p.Priority == 0 // older kernels have none
	return []option{byte2("queue-id", 5, p.QueueID), priority}
}

// vlanOptions returns the options of a vlan; the numbers are IFLA_VLAN_*.
func vlanOptions(v *profile.VLAN) []option {
	flags := byte4("flags", 2, v.Flags)
	flags.value = binary.NativeEndian.AppendUint32(flags.value, vlanFlags)
	egress, ingress := priorities("egress-priority-map", 3, v.Egress), priorities("ingress-priority-map", 4, v.Ingress)
	return []option{fixed(byte2("id", 1, v.ID)), fixed(protocol("protocol", 5, v.Protocol)), flags, egress, ingress}
}

// vlanFlags are the flags of vlans that profiles know: the mask of what is changed.
const vlanFlags = 0xf

// mapping is one entry of a map of priorities.
type mapping struct{ from, to uint32 }

// priorities reads words of the form FROM:TO. One that is not so costs itself, as in NetworkManager.
func priorities(name string, n uint16, list []string) option {
	o := option{name: name, number: n, fixed: true}
	var all []mapping
	var words []string
	for _, text := range list {
		from, to, _ := strings.Cut(text, ":")
		a, err := keyvalue.Number(from, 0, 1<<32-1)
		b, wrong := keyvalue.Number(to, 0, 1<<32-1)
		if err == nil && wrong == nil {
			all = append(all, mapping{uint32(a), uint32(b)})
			words = append(words, text)
		}
	}
	o.value, o.text = encodeMappings(all), strings.Join(words, ",")
	return o
}

// encodeMappings returns the attributes IFLA_VLAN_QOS_MAPPING of a map, by their first number. A mapping to 0 is none.
func encodeMappings(all []mapping) []byte {
	all = slices.DeleteFunc(all, func(m mapping) bool { return m.to == 0 })
	slices.SortStableFunc(all, func(a, b mapping) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	for _, m := range all {
		value := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, m.from), m.to)
		out = append(out, attribute(1, value)...)
	}
	return out
}

// bondOptions returns the options of a bond; the numbers are IFLA_BOND_*. Of the two monitors, the one without an
// interval comes first: the kernel refuses both at once. Options that need a link that is down or has no ports are
// fixed.
func (p *planner) bondOptions(b *profile.Bond) []option {
	arp := b.Number("arp_interval", 0)
	usual := map[bool]int{false: 100}[arp > 0]
	miimon := b.Number("miimon", usual)
	whole := func(name string) int64 { // the kernel rounds them to whole intervals
		return int64(b.Number(name, 0) / max(miimon, 1) * max(miimon, 1))
	}
	words := func(name string, n uint16, fallback int) option {
		at := b.Word(name, fallback)
		return word(name, n, int64(at), keyvalue.BondWords(name)[at])
	}
	list := []option{
		fixed(words("mode", 1, 0)), fixed(words("fail_over_mac", 13, 0)), byte4("miimon", 3, int64(miimon)),
		byte4("arp_interval", 7, int64(arp)), p.targets("arp_ip_target", 8, b), p.targets("ns_ip6_target", 31, b),
		wide(words("arp_validate", 9, 0)), wide(words("arp_all_targets", 10, 0)),
		byte4("updelay", 4, whole("updelay")), byte4("downdelay", 5, whole("downdelay")),
		byte4("peer_notif_delay", 28, whole("peer_notif_delay")),
		byte1("use_carrier", 6, int64(b.Number("use_carrier", 1))), words("xmit_hash_policy", 14, 0),
		byte4("resend_igmp", 15, int64(b.Number("resend_igmp", 1))),
		byte1("num_grat_arp", 16, int64(b.Number("num_grat_arp", b.Number("num_unsol_na", 1)))),
		byte1("all_slaves_active", 17, int64(b.Number("all_slaves_active", 0))),
		byte4("min_links", 18, int64(b.Number("min_links", 0))),
		byte4("lp_interval", 19, int64(b.Number("lp_interval", 1))),
		words("primary_reselect", 12, 0),
	}
	mode := keyvalue.BondWords("mode")[b.Word("mode", 0)]
	switch mode {
	case "balance-rr":
		list = append(list, byte4("packets_per_slave", 20, int64(b.Number("packets_per_slave", 1))))
	case "802.3ad":
		list = append(list, fixed(words("lacp_rate", 21, 0)), fixed(words("ad_select", 22, 0)))
		list = append(list, p.actor(b)...)
	case "balance-tlb":
		list = append(list, fixed(byte1("tlb_dynamic_lb", 27, int64(b.Number("tlb_dynamic_lb", 1)))))
	}
	if mode != "802.3ad" && mode != "balance-tlb" && mode != "balance-alb" {
		list = append(list, byte1("arp_missed_max", missedMax, int64(b.Number("arp_missed_max", 2))))
	}
	return append(list, p.portNames(b)...)
}

// actor returns how a bond presents itself to the other end in mode 802.3ad.
func (p *planner) actor(b *profile.Bond) []option {
	system := cmp.Or(b.Options["ad_actor_system"], "00:00:00:00:00:00")
	return []option{
		fixed(byte2("ad_actor_sys_prio", 24, int64(b.Number("ad_actor_sys_prio", 65535)))),
		fixed(byte2("ad_user_port_key", 25, int64(b.Number("ad_user_port_key", 0)))),
		fixed(hardware("ad_actor_system", 26, system)),
	}
}

// portNames returns the ports that a bond prefers, by index. While such a link is not there, it is left to a later
// plan.
func (p *planner) portNames(b *profile.Bond) []option {
	list := []option{{name: "primary", number: 11, value: make([]byte, 4), text: "none", unless: true}}
	if b.Options["primary"]+b.Options["active_slave"] != "" {
		list = nil
	}
	for _, o := range []struct {
		name   string
		number uint16
	}{{"primary", 11}, {"active_slave", 2}} {
		name := b.Options[o.name]
		for _, a := range p.actual {
			port := a.Master != 0 && name != "" && a.Name == name
			if port && (o.name == "primary" || b.Options["primary"] == "") {
				one := byte4(o.name, o.number, int64(a.Index))
				one.text = name
				list = append(list, one)
			}
		}
	}
	return list
}

// targets returns the addresses that a bond asks by ARP or neighbour solicitation.
func (p *planner) targets(name string, n uint16, b *profile.Bond) option {
	o := option{name: name, number: n, text: cmp.Or(b.Options[name], "none")}
	i := uint16(0)
	for text := range strings.SplitSeq(b.Options[name], ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			o.value = append(o.value, attribute(i, a.AsSlice())...)
			i++
		}
	}
	o.unless = i == 0
	return o
}

// vlan is one vlan, or a range of them, that a port of a bridge lets through.
type vlan struct {
	first, last    uint16
	pvid, untagged bool
}

// String returns the range in the words of key files: "10-20", "1 pvid untagged".
func (v vlan) String() string {
	text := strconv.Itoa(int(v.first))
	if v.last != v.first {
		text += "-" + strconv.Itoa(int(v.last))
	}
	if v.pvid {
		text += " pvid"
	}
	if v.untagged {
		text += " untagged"
	}
	return text
}

// vlansOf reads a list of vlans, and adds the one that frames without a tag belong to. The result has one entry for
// each vlan; why names a part that is none.
func vlansOf(list string, usual int64) (out []vlan, why string) {
	all := map[uint16]vlan{}
	if usual != 0 {
		all[uint16(usual)] = vlan{first: uint16(usual), last: uint16(usual), pvid: true, untagged: true}
	}
	for text := range strings.SplitSeq(list, ",") {
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		low, high, ranged := strings.Cut(words[0], "-")
		first, err := keyvalue.Number(low, 1, 4094)
		last := first
		if ranged && err == nil {
			last, err = keyvalue.Number(high, first, 4094)
		}
		v := vlan{pvid: slices.Contains(words, "pvid"), untagged: slices.Contains(words, "untagged")}
		if err != nil || v.pvid && first != last {
			why = fmt.Sprintf("%q is no vlan or range of vlans", strings.TrimSpace(text))
			continue // it costs itself, as in NetworkManager
		}
		for id := first; id <= last; id++ {
			all[uint16(id)] = vlan{uint16(id), uint16(id), v.pvid, v.untagged}
		}
		for id, other := range all {
			if v.pvid && id != uint16(first) {
				other.pvid = false
				all[id] = other
			}
		}
	}
	return sortedVLANs(all), why
}

func sortedVLANs(all map[uint16]vlan) []vlan {
	out := []vlan{}
	for _, v := range all {
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b vlan) int { return cmp.Compare(a.first, b.first) })
	return out
}

// vlans plans the vlans of a port, or of a bridge itself. nil: the profile says nothing.
func (p *planner) vlans(file string, a Actual, list []vlan, self bool) {
	if list == nil {
		return
	}
	drop := slices.DeleteFunc(slices.Clone(a.vlans), func(v vlan) bool {
		return slices.ContainsFunc(list, func(w vlan) bool { return w.first == v.first })
	})
	put := slices.DeleteFunc(slices.Clone(list), func(v vlan) bool { return slices.Contains(a.vlans, v) })
	for _, v := range ranges(drop) {
		p.add(Step{Verb: DropVLANs, File: file, Link: a.Name, index: a.Index, self: self, vlan: v})
	}
	for _, v := range ranges(put) {
		p.add(Step{Verb: PutVLANs, File: file, Link: a.Name, index: a.Index, self: self, vlan: v})
	}
}

// ranges joins neighbours that are alike.
func ranges(list []vlan) (out []vlan) {
	for _, v := range list {
		if n := len(out); n > 0 && !v.pvid && out[n-1].last+1 == v.first && out[n-1].untagged == v.untagged &&
			!out[n-1].pvid {
			out[n-1].last = v.last
			continue
		}
		out = append(out, v)
	}
	return out
}
