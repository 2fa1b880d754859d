package openvpn

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
	"resinos/services/hostname"
)

// Pushed is what openvpn knows when its link is there: the variables that it would give a script, and what the server
// has pushed about the default route, which is in none of them.
type Pushed struct {
	Env   map[string]string `json:"env"`
	Full4 bool              `json:"full4"` // everything of IPv4 is to go through the tunnel
	Full6 bool              `json:"full6"`
}

// pushLine is what openvpn logs before what a server has pushed.
const pushLine = "PUSH: Received control message: '"

// Hear takes over what a line of the log says about the default route. changed reports whether it was such a line.
func (p *Pushed) Hear(line string) {
	_, text, found := strings.Cut(line, pushLine)
	if !found {
		return
	}
	for _, one := range strings.Split(strings.TrimSuffix(strings.TrimSpace(text), "'"), ",") {
		if f := strings.Fields(one); len(f) > 0 && f[0] == "redirect-gateway" {
			p.redirect(f[1:])
		}
	}
}

func (p *Pushed) redirect(flags []string) {
	p.Full4 = p.Full4 || !slices.Contains(flags, "!ipv4")
	p.Full6 = p.Full6 || slices.Contains(flags, "ipv6")
}

// Environ takes over a message UPDOWN. done reports that the variables are complete, up that the link is there.
func (p *Pushed) Environ(text string) (done bool) {
	rest, is := strings.CutPrefix(text, "ENV,")
	switch {
	case !is:
		p.Env = map[string]string{}
	case rest == "END":
		return true
	default:
		key, value, _ := strings.Cut(rest, "=")
		if p.Env == nil {
			p.Env = map[string]string{}
		}
		if len(p.Env) < mostVariables && interesting(key) {
			p.Env[key] = value
		}
	}
	return false
}

// mostVariables bounds what a server can have the device keep.
const mostVariables = 4000

// interesting reports whether a variable says something about the link. Others are about certificates.
func interesting(key string) bool {
	for _, begin := range []string{"dev", "tun_mtu", "ifconfig_", "route_", "foreign_option_", "dns_"} {
		if strings.HasPrefix(key, begin) {
			return true
		}
	}
	return false
}

// The metric and priority of tunnels, those of NetworkManager.
const (
	usualMetric = 50
	dnsPriority = 50
)

// The rules that lead everything into a tunnel but the tunnel's own packets and what a narrower route leads elsewhere;
// those of wireguard are 31599 and 31600.
const (
	narrowRule = 31597
	fullRule   = 31598
	mainTable  = 254
)

// Merge returns the profile as it is with what the server has pushed: a profile of a link that needs nobody else. notes
// are what of it is left out.
func (t Tunnel) Merge(p profile.Profile, pushed Pushed) (out profile.Profile, notes []string) {
	m := &merger{tunnel: t, env: pushed.Env, tap: pushed.Env["dev_type"] == "tap"}
	out = p
	out.IPv4 = m.four(p.IPv4, pushed.Full4 || t.Full)
	out.IPv6 = m.six(p.IPv6, pushed.Full6)
	if mtu, _ := strconv.Atoi(pushed.Env["tun_mtu"]); mtu >= 576 && mtu <= 65535 {
		e := *profile.NewSection[profile.Ethernet]()
		e.MTU = int64(mtu)
		out.Ethernet = &e
	}
	return out, m.notes
}

type merger struct {
	tunnel Tunnel
	env    map[string]string
	tap    bool
	notes  []string
}

func (m *merger) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// section returns a copy of a section, or a new one, with what holds for tunnels.
func section(ip *profile.IP) *profile.IP {
	out := profile.NewSection[profile.IP]()
	out.Method = profile.Auto
	if ip != nil {
		copied := *ip
		out = &copied
		out.Addresses, out.Routes = slices.Clone(ip.Addresses), slices.Clone(ip.Routes)
		out.Rules = slices.Clone(ip.Rules)
		out.DNS, out.Search = slices.Clone(ip.DNS), slices.Clone(ip.Search)
	}
	if out.Metric < 0 {
		out.Metric = usualMetric
	}
	out.DNSPriority = cmp.Or(out.DNSPriority, dnsPriority)
	return out
}

// four returns [ipv4].
func (m *merger) four(ip *profile.IP, everything bool) *profile.IP {
	out := section(ip)
	if out.Method == profile.Disabled {
		return out
	}
	if out.Method == profile.Auto {
		m.address4(out)
	}
	out.Method = profile.Manual
	var routes []profile.Route
	for i := 1; m.env["route_network_"+strconv.Itoa(i)] != "" && i <= mostRoutes; i++ {
		n := strconv.Itoa(i)
		network, netmask := m.env["route_network_"+n], m.env["route_netmask_"+n]
		bits, ok := mask(netmask)
		to := addressOf(network)
		if !ok || !to.Is4() {
			m.note("a route of the server is left out: %s %s", name(network), name(netmask))
			continue
		}
		r := m.route(netip.PrefixFrom(to, bits), m.env["route_gateway_"+n], m.env["route_metric_"+n])
		routes = append(routes, r)
	}
	m.routes(out, routes, everything, false)
	m.names(out)
	return out
}

// mostRoutes is how many routes of a server are used.
const mostRoutes = 512

// address4 adds the address that the server has given.
func (m *merger) address4(out *profile.IP) {
	local, remote := addressOf(m.env["ifconfig_local"]), addressOf(m.env["ifconfig_remote"])
	if !local.Is4() {
		return
	}
	if bits, ok := mask(m.env["ifconfig_netmask"]); ok {
		out.Addresses = append(out.Addresses, netip.PrefixFrom(local, bits))
		return
	}
	out.Addresses = append(out.Addresses, netip.PrefixFrom(local, 32))
	if remote.Is4() {
		out.Routes = append(out.Routes, profile.Route{Destination: netip.PrefixFrom(remote, 32), Metric: -1})
	}
}

// six returns [ipv6].
func (m *merger) six(ip *profile.IP, everything bool) *profile.IP {
	out := section(ip)
	out.AddrGenMode = 0
	local := addressOf(m.env["ifconfig_ipv6_local"])
	bits, err := strconv.Atoi(m.env["ifconfig_ipv6_netbits"])
	given := local.Is6() && err == nil && bits >= 0 && bits <= 128
	switch {
	case out.Method == profile.Disabled, out.Method == profile.Ignore:
		return out
	case out.Method == profile.Manual:
	case given:
		out.Addresses = append(out.Addresses, netip.PrefixFrom(local, bits))
	default:
		out.Method = profile.Ignore
		return out
	}
	out.Method = profile.Manual
	var routes []profile.Route
	for i := 1; m.env["route_ipv6_network_"+strconv.Itoa(i)] != "" && i <= mostRoutes; i++ {
		n := strconv.Itoa(i)
		to, err := netip.ParsePrefix(m.env["route_ipv6_network_"+n])
		if err != nil || !to.Addr().Is6() {
			m.note("a route of the server is left out: %s", name(m.env["route_ipv6_network_"+n]))
			continue
		}
		routes = append(routes, m.route(to, m.env["route_ipv6_gateway_"+n], m.env["route_ipv6_metric_"+n]))
	}
	m.routes(out, routes, everything, true)
	return out
}

// route returns a route of the server. On a link without hardware addresses no gateway is needed.
func (m *merger) route(to netip.Prefix, gateway, metric string) profile.Route {
	r := profile.Route{Destination: to.Masked(), Metric: -1}
	if n, err := strconv.Atoi(metric); err == nil && n >= 0 {
		r.Metric = int64(n)
	}
	if via := addressOf(gateway); m.tap && via.IsValid() && via.Is4() == to.Addr().Is4() {
		r.Gateway = via
	}
	return r
}

// routes adds what the server has pushed to the routes of the file. Those of half the addresses mean all of them.
func (m *merger) routes(out *profile.IP, pushed []profile.Route, everything, six bool) {
	if out.IgnoreRoutes {
		return
	}
	outside := addressOf(m.env["route_net_gateway"])
	for i, r := range pushed {
		via := addressOf(m.env["route_gateway_"+strconv.Itoa(i+1)])
		switch {
		case r.Destination.Bits() <= 1:
			everything = true
		case !six && outside.IsValid() && !outside.IsUnspecified() && via == outside:
			m.note("the route to %s is left out: it would not go through the tunnel", r.Destination)
		default:
			out.Routes = append(out.Routes, r)
		}
	}
	if !everything || out.NeverDefault {
		return
	}
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if six {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	table := int64(m.tunnel.Mark)
	r := profile.Route{Destination: all, Metric: -1, Options: map[string]string{"table": strconv.FormatInt(table, 10)}}
	if via := addressOf(m.env["route_vpn_gateway"]); m.tap && !six && via.Is4() {
		r.Gateway = via
	}
	out.Routes = append(out.Routes, r)
	out.Rules = append(out.Rules,
		keyvalue.Rule{Priority: narrowRule, Action: "table", Table: mainTable},
		keyvalue.Rule{Priority: fullRule, Action: "table", Table: table, Not: true, Mark: table, Mask: 1<<32 - 1,
			SuppressPrefix: -1})
}

// names adds the name servers and domains of both families.
func (m *merger) names(out *profile.IP) {
	if out.IgnoreDNS {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.env), byNumber) {
		value := m.env[key]
		f := strings.Fields(value)
		switch {
		case strings.HasPrefix(key, "foreign_option_") && len(f) >= 3 && f[0] == "dhcp-option":
			m.option(out, f[1], f[2:])
		case strings.HasPrefix(key, "dns_server_") && strings.Contains(key, "_address_"):
			m.option(out, "DNS", f)
		case strings.HasPrefix(key, "dns_search_domain_"), strings.Contains(key, "_resolve_domain_"):
			m.option(out, "DOMAIN", f)
		}
	}
}

// byNumber orders variables that end in a number.
func byNumber(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// mostServers bounds the name servers and domains of a server.
const mostServers = 8

func (m *merger) option(out *profile.IP, kind string, values []string) {
	for _, v := range values {
		switch kind {
		case "DNS", "DNS6":
			if a := addressOf(v); a.IsValid() && len(out.DNS) < mostServers && !slices.Contains(out.DNS, a.String()) {
				out.DNS = append(out.DNS, a.String())
			}
		case "DOMAIN", "DOMAIN-SEARCH", "ADAPTER_DOMAIN_SUFFIX":
			if hostname.Valid(v) && len(out.Search) < mostServers && !slices.Contains(out.Search, v) {
				out.Search = append(out.Search, v)
			}
		}
	}
}

// mask returns the length of a netmask.
func mask(text string) (bits int, ok bool) {
	a := addressOf(text)
	if !a.Is4() {
		return 0, false
	}
	b := a.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for ; n&(1<<31) != 0; n <<= 1 {
		bits++
	}
	return bits, n == 0
}
