package assignment

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/link"
	"resinos/net/ndwatch"
	"resinos/net/nic"
	"resinos/net/openvpn"
	"resinos/net/profile"
	"resinos/net/resolv"
	"resinos/net/routingrule"
)

// Static is what a profile gives its link without asking anybody.
type Static struct {
	Wanted  link.Wanted
	Rules   []routingrule.Rule
	Card    nic.Settings
	DNS     []netip.Addr
	Search  []string
	Options []string // of resolvers, as in resolv.conf
	// DNSPriority goes before the metric of the link for the order of name servers; 0: the metric counts. If it is
	// negative, only servers of the lowest priority are asked.
	DNSPriority int
	DHCP        bool         // IPv4 comes from a DHCP server
	Shares      bool         // the link gives others addresses and a way out
	Shared      netip.Prefix // the address that it does so with; the zero value: netd chooses one and calls Share
	Shares6     bool         // the same of IPv6
	Shared6     netip.Prefix // the same; the zero value: netd chooses one and calls Share
	Metric      int          // of the routes of IPv4
	Metric6     int          // of those of IPv6
	Waiting     string       // why nothing is done yet: the profile needs a driver
	Notes       []string     // what the profile asks for and does not get

	Routers bool // what IPv6 routers say is followed
	DHCP6   bool // a DHCPv6 server is asked whatever they say

	seed string
}

// For returns what the profile gives the link. metric is that of a link without a profile; seed is a text that differs
// in each boot.
func For(p profile.Profile, l link.Link, metric int, seed string) Static {
	s := Static{Metric: metric, seed: seed, Wanted: link.Wanted{Up: true, SkipsDown: true}}
	switch p.Connection.Type {
	case profile.TypeVPN:
		if !openvpn.Drives(p) {
			return Static{Metric: metric, Waiting: "only openvpn has a driver, and no other kind of vpn"}
		}
	}
	if p.EAP != nil && p.Connection.Type == profile.TypeEthernet {
		s.note("[802-1x] has no effect: a cable is used without it")
	}
	s.hardware(p, l)
	s.Card = card(p)
	if p.Connection.PortType != "" {
		return s // the addresses are those of the bridge or bond
	}
	if ip := p.IPv4; ip != nil {
		s.Metric = metricOf(ip, metric)
		s.four(ip, l)
		s.common(ip, s.Metric, false)
	}
	if ip := p.IPv6; ip != nil {
		s.six(ip, metricOf(ip, metric))
		s.common(ip, metricOf(ip, metric), true)
	}
	if p.WireGuard != nil && p.Connection.Type == profile.TypeWireGuard {
		s.tunnel(p, metric)
		s.DNSPriority = cmp.Or(s.DNSPriority, tunnelPriorityOfNames)
	}
	if p.Connection.Type == profile.TypeVPN { // its server tells openvpn (openvpn.Merge)
		s.DHCP, s.DHCP6, s.Routers = false, false, false
	}
	s.distinct()
	return s
}

// distinct drops routes that would replace an earlier one: the kernel has one for each network, metric, table and TOS.
func (s *Static) distinct() {
	type key struct {
		to                 netip.Prefix
		metric, table, tos int
	}
	seen := map[key]bool{}
	s.Wanted.Routes = slices.DeleteFunc(s.Wanted.Routes, func(r link.Route) bool {
		k := key{r.Destination, r.Metric, r.Table, r.TOS}
		if seen[k] && r.Gateway.IsValid() {
			s.note("route to %s is left out: there is one already with metric %d", r.Destination, r.Metric)
		}
		was := seen[k]
		seen[k] = true
		return was
	})
}

func metricOf(ip *profile.IP, metric int) int {
	if ip.Metric >= 0 {
		return int(ip.Metric)
	}
	return metric
}

func (s *Static) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// hardware sets what the sections of the link's type say.
func (s *Static) hardware(p profile.Profile, l link.Link) {
	switch {
	case p.WireGuard != nil && p.WireGuard.MTU != 0:
		s.Wanted.MTU = int(p.WireGuard.MTU)
	case p.GSM != nil && p.GSM.MTU != 0:
		s.Wanted.MTU = int(p.GSM.MTU)
	case p.Ethernet != nil && p.Ethernet.MTU != 0:
		s.Wanted.MTU = int(p.Ethernet.MTU)
	case p.WiFi != nil && p.WiFi.MTU != 0:
		s.Wanted.MTU = int(p.WiFi.MTU)
	}
	switch {
	case p.Ethernet != nil:
		s.clone(p, string(p.Ethernet.ClonedMAC), l)
	case p.WiFi != nil && p.WiFi.ClonedMAC != "random": // that is new for each connection (net/wifi)
		s.clone(p, string(p.WiFi.ClonedMAC), l)
	}
}

// clone sets the hardware address that a profile asks for.
func (s *Static) clone(p profile.Profile, mac string, l link.Link) {
	switch mac {
	case "", "preserve":
		if p.Bridge != nil && mac == "" {
			s.Wanted.Hardware = string(p.Bridge.MAC)
		}
	case "permanent":
		s.Wanted.Hardware = l.Burnt
	case "stable", "random":
		if mac == "stable" && l.Burnt == "" {
			s.note("cloned-mac-address=stable has no effect: the link has no address of its own to derive one from")
			break
		}
		seed := l.Burnt // two devices with one image never get the same address
		if mac == "random" {
			seed += s.seed
		}
		s.Wanted.Hardware = invented(seed, stableID(p), p.Ethernet.MACMask, l)
	default:
		s.Wanted.Hardware = mac
	}
}

// four sets what the method of [ipv4] says.
func (s *Static) four(ip *profile.IP, l link.Link) {
	switch ip.Method {
	case profile.Auto:
		s.DHCP = l.Kind != link.Modem // its network says what it gets (net/modems)
	case profile.Shared:
		s.Shares = true
		if len(ip.Addresses) > 0 {
			s.Shared = ip.Addresses[0]
		}
	}
	if ip.Method == profile.LinkLocal || ip.LinkLocal == linkLocalToo && ip.Method != profile.Disabled {
		s.address(netip.PrefixFrom(linkLocal(l.Hardware), 16), s.Metric, 0)
	}
	if ip.HostnameFlag != 0 && ip.FQDN == "" {
		s.note("[ipv4] dhcp-hostname-flags has no effect without dhcp-fqdn")
	}
	if ip.DADTimeout > 0 && len(ip.Addresses) > 0 {
		s.note("[ipv4] dad-timeout: the addresses of the file are used without a check; those of a server are checked")
	}
}

// Share gives a link that shares and has no address this one.
func (s *Static) Share(own netip.Prefix) {
	if own.Addr().Is6() {
		s.Shared6 = own
		s.address(own, s.Metric6, 0)
		return
	}
	s.Shared = own
	s.address(own, s.Metric, 0)
}

// linkLocalToo is the value of link-local that adds such an address to those of the method.
const linkLocalToo = 3

// linkLocal returns an address in 169.254.1.0 to 169.254.254.255 that depends on the hardware address.
func linkLocal(hardware string) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(hardware)))
	sum := h.Sum32()
	return netip.AddrFrom4([4]byte{169, 254, byte(1 + sum%254), byte(sum >> 16)})
}

// six sets what the method of [ipv6] says.
func (s *Static) six(ip *profile.IP, metric int) {
	set := func(name, value string) {
		s.Wanted.IPv6 = append(s.Wanted.IPv6, link.Setting{Name: name, Value: value})
	}
	yes := map[bool]string{false: "0", true: "1"}
	if ip.Method == profile.Ignore {
		return
	}
	set("disable_ipv6", yes[ip.Method == profile.Disabled])
	if ip.Method == profile.Disabled {
		return
	}
	if s.Metric6 = metric; ip.Method == profile.Shared {
		s.Shares6 = true
		if len(ip.Addresses) > 0 {
			s.Shared6 = ip.Addresses[0]
		}
	}
	s.Routers, s.DHCP6 = ip.Method == profile.Auto || ip.Method == profile.DHCP, ip.Method == profile.DHCP
	set("accept_ra", yes[s.Routers])
	if s.Routers {
		set("autoconf", yes[ip.Method == profile.Auto])
		set("accept_ra_defrtr", yes[!ip.NeverDefault && !ip.IgnoreRoutes])
		set(ndwatch.RouterMetric, strconv.Itoa(cmp.Or(metric, 1024))) // the kernel's own reading of 0
	}
	if !stable(ip) {
		set("addr_gen_mode", "0")
	}
	if ip.MTU != 0 {
		set("mtu", strconv.FormatInt(ip.MTU, 10))
	}
	if ip.DADTimeout == 0 {
		set("dad_transmits", "0")
	}
	if ip.Privacy >= 0 {
		set("use_tempaddr", strconv.FormatInt(ip.Privacy, 10))
	}
}

// stable reports whether the addresses of the link must not follow from its hardware address (RFC 7217).
func stable(ip *profile.IP) bool {
	return ip.AddrGenMode == profile.StablePrivacy || ip.AddrGenMode == profile.DefaultMode
}

// StableSecret is the kernel's setting of a link from which it makes stable private addresses.
const StableSecret = "stable_secret"

// Stable has the kernel make stable private addresses if the profile asks for them. They depend on the profile, the
// link, the network, and identity, a text that is the device's own and stays.
func (s *Static) Stable(p profile.Profile, l link.Link, identity string) {
	ip := p.IPv6
	if ip == nil || !stable(ip) || ip.Method == profile.Ignore || ip.Method == profile.Disabled {
		return
	}
	if identity == "" {
		s.note("[ipv6] addr-gen-mode=stable-privacy: the device has no machine id")
		return
	}
	id := cmp.Or(p.Connection.StableID, p.Connection.UUID, p.Connection.ID)
	sum := sha256.Sum256([]byte("ipv6 secret\x00" + identity + "\x00" + id + "\x00" + l.Name))
	var groups []string
	for i := range 8 {
		groups = append(groups, hex.EncodeToString(sum[2*i:2*i+2]))
	}
	s.Wanted.IPv6 = append(s.Wanted.IPv6, link.Setting{Name: StableSecret, Value: strings.Join(groups, ":")},
		link.Setting{Name: "addr_gen_mode", Value: "2"})
}

// common sets the addresses, routes, rules and name servers of either family.
func (s *Static) common(ip *profile.IP, metric int, six bool) {
	table := tableOf(ip)
	for _, a := range ip.Addresses {
		s.address(a, metric, table)
	}
	if gateway, err := netip.ParseAddr(ip.Gateway); err == nil && !ip.NeverDefault {
		r := link.Route{Gateway: gateway, Metric: metric, Table: table}
		r.Destination = netip.PrefixFrom(unspecified(gateway), 0)
		r.OnLink = gateway.Is4() && !covered(ip.Addresses, gateway)
		s.Wanted.Routes = append(s.Wanted.Routes, r)
	}
	for _, r := range ip.Routes {
		if one, ok := s.route(r, metric, table); ok {
			s.Wanted.Routes = append(s.Wanted.Routes, one)
		}
	}
	for _, r := range ip.Rules {
		s.Rules = append(s.Rules, ruleOf(r, six))
	}
	for _, text := range ip.DNS {
		text, _, _ = strings.Cut(text, "#")
		if a, err := netip.ParseAddr(text); err == nil {
			s.DNS = append(s.DNS, a)
		}
	}
	if p := int(ip.DNSPriority); p != 0 && (s.DNSPriority == 0 || p < s.DNSPriority) {
		s.DNSPriority = p
	}
	for _, option := range ip.DNSOptions {
		if resolv.ValidOption(option) {
			s.Options = append(s.Options, option)
		} else {
			s.note("dns-options: resolvers have no option %q", option)
		}
	}
	for _, domain := range ip.Search {
		if domain != "" && !strings.ContainsAny(domain, ", ;\n\t") {
			s.Search = append(s.Search, domain)
		}
	}
}

func covered(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return a.IsLinkLocalUnicast()
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// address adds an address with the route to its network.
func (s *Static) address(p netip.Prefix, metric, table int) {
	a := link.Address{Prefix: p, Valid: link.Forever}
	if p.Addr().Is4() && p.Bits() < 31 {
		a.Broadcast = broadcast(p)
	}
	s.Wanted.Addresses = append(s.Wanted.Addresses, a)
	if !p.IsSingleIP() {
		r := link.Route{Destination: p.Masked(), Metric: metric, Table: table}
		if p.Addr().Is4() {
			r.Source = p.Addr()
		}
		s.Wanted.Routes = append(s.Wanted.Routes, r)
	}
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := range 32 - p.Bits() {
		b[3-i/8] |= 1 << (i % 8)
	}
	return netip.AddrFrom4(b)
}

// route returns a route of a profile with its attributes.
func (s *Static) route(r profile.Route, metric, table int) (link.Route, bool) {
	out := link.Route{Destination: r.Destination.Masked(), Gateway: r.Gateway, Metric: metric, Table: table}
	if r.Metric >= 0 {
		out.Metric = int(r.Metric)
	}
	if out.Metric == 0 && r.Destination.Addr().Is6() {
		out.Metric = 1024 // the kernel's own reading of 0
	}
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		value := r.Options[name]
		n, _ := strconv.Atoi(value) // the reader has judged it
		switch name {
		case "mtu":
			out.MTU = n
		case "table":
			out.Table = n
			if n == 254 {
				out.Table = 0
			}
		case "onlink":
			out.OnLink = value == "true" && out.Gateway.Is4()
		case "src":
			out.Source, _ = netip.ParseAddr(value)
		case "tos":
			out.TOS = n
		case "window":
			out.Tuning.Window = n
		case "advmss":
			out.Tuning.AdvMSS = n
		case "initcwnd":
			out.Tuning.InitCwnd = n
		case "initrwnd":
			out.Tuning.InitRwnd = n
		case "rto_min":
			out.Tuning.RTOMin = n
		case "quickack":
			out.Tuning.QuickACK = map[bool]int{false: 0, true: 1}[value == "true"]
		case "lock-mtu":
			out.Tuning.MTULock = value == "true"
		case "type":
			if value != "unicast" {
				s.note("route to %s is left out: its type %s is not supported", r.Destination, value)
				return out, false
			}
		default:
			s.note("route to %s: %s has no effect", r.Destination, name)
		}
	}
	return out, true
}

// ruleOf returns a rule of a profile in the words of the kernel.
func ruleOf(r keyvalue.Rule, six bool) routingrule.Rule {
	out := routingrule.Rule{Six: six,
		Priority: int(r.Priority), Not: r.Not, From: r.From, To: r.To, IIF: r.IIF, OIF: r.OIF, TOS: int(r.TOS),
		Protocol: int(r.Protocol), SPort: [2]uint16{uint16(r.SPort[0]), uint16(r.SPort[1])},
		DPort: [2]uint16{uint16(r.DPort[0]), uint16(r.DPort[1])}, Mark: uint32(r.Mark), Mask: uint32(r.Mask),
		UIDs: [2]uint32{uint32(r.UIDs[0]), uint32(r.UIDs[1])}, HasUIDs: r.HasUIDs, Table: int(r.Table),
		SuppressPrefix: int(r.SuppressPrefix),
	}
	out.Action = map[string]uint8{
		"table": routingrule.ToTable, "blackhole": routingrule.Blackhole,
		"unreachable": routingrule.Unreachable, "prohibit": routingrule.Prohibit,
	}[r.Action]
	return out
}
