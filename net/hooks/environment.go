package hooks

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/lease"
	"resinos/net/netstate"
)

// keyFiles is where a script finds the key file of its link.
const keyFiles = "/etc/NetworkManager/system-connections"

// Environment returns the variables of a script, as nm-dispatcher(8) names them. started is when the kernel did. Values
// with line breaks or zero bytes, which no value of netd has, are left out.
func Environment(e Event, started time.Time) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "NM_DISPATCHER_ACTION=" + string(e.Action)}
	add := func(name, value string) {
		if value != "" && !strings.ContainsAny(value, "\x00\n") {
			env = append(env, name+"="+value)
		}
	}
	switch e.Action {
	case HostRename:
		return env
	case Reach:
		add("CONNECTIVITY_STATE", e.Reach)
		return env
	}
	l := e.Link
	add("CONNECTION_UUID", l.UUID)
	add("CONNECTION_ID", cmp.Or(l.ID, l.Name))
	if l.File != "" {
		add("CONNECTION_FILENAME", filepath.Join(keyFiles, filepath.Base(l.File)))
	}
	add("DEVICE_IFACE", l.Name)
	add("DEVICE_IP_IFACE", l.Name)
	family(add, l, "IP4", netip.Addr.Is4)
	family(add, l, "IP6", netip.Addr.Is6)
	if l.Lease != nil {
		dhcp4(add, *l.Lease, started)
	}
	if l.Lease6 != nil {
		leased6(add, *l.Lease6)
	}
	return env
}

// family adds what a link has of IPv4 or IPv6.
func family(add func(name, value string), l netstate.Link, prefix string, is func(netip.Addr) bool) {
	none := map[string]string{"IP4": "0.0.0.0", "IP6": "::"}[prefix]
	gateway := none
	routes := 0
	for _, r := range l.Routes {
		switch {
		case !is(r.Destination.Addr()):
		case r.Destination.Bits() == 0 && r.Gateway.IsValid():
			gateway = r.Gateway.String()
		default:
			hop := none
			if r.Gateway.IsValid() {
				hop = r.Gateway.String()
			}
			add(fmt.Sprintf("%s_ROUTE_%d", prefix, routes), fmt.Sprintf("%s %s %d", r.Destination, hop, r.Metric))
			routes++
		}
	}
	n := 0
	for _, a := range l.Addresses {
		if is(a.Addr()) {
			add(fmt.Sprintf("%s_ADDRESS_%d", prefix, n), a.String()+" "+gateway)
			n++
		}
	}
	if n > 0 {
		add(prefix+"_NUM_ADDRESSES", strconv.Itoa(n))
		add(prefix+"_GATEWAY", gateway)
	}
	var servers []string
	for _, s := range l.Servers {
		if is(s) {
			servers = append(servers, s.String())
		}
	}
	add(prefix+"_NAMESERVERS", strings.Join(servers, " "))
	if n > 0 {
		add(prefix+"_DOMAINS", strings.Join(l.Search, " "))
	}
	if routes > 0 || prefix == "IP4" { // as NetworkManager does
		add(prefix+"_NUM_ROUTES", strconv.Itoa(routes))
	}
}

// dhcp4 adds the options of a lease.
func dhcp4(add func(name, value string), l lease.Lease, started time.Time) {
	mask := net.IP(net.CIDRMask(l.Address.Bits(), 32)).String()
	var routes []string
	for _, r := range l.Routes {
		routes = append(routes, fmt.Sprintf("%s %s", r.Destination, r.Gateway))
	}
	for _, o := range []struct{ name, value string }{
		{"IP_ADDRESS", l.Address.Addr().String()}, {"SUBNET_MASK", mask},
		{"NETWORK_NUMBER", l.Address.Masked().Addr().String()},
		{"BROADCAST_ADDRESS", address(l.Broadcast)}, {"ROUTERS", list(l.Routers)}, {"DOMAIN_NAME_SERVERS", list(l.DNS)},
		{"NTP_SERVERS", list(l.NTP)}, {"DOMAIN_NAME", strings.Join(l.Domains, " ")},
		{"DOMAIN_SEARCH", strings.Join(l.Search, " ")}, {"HOST_NAME", l.Hostname}, {"INTERFACE_MTU", number(l.MTU)},
		{"RFC3442_CLASSLESS_STATIC_ROUTES", strings.Join(routes, " ")},
		{"DHCP_LEASE_TIME", number(int(l.Length / time.Second))}, {"DHCP_SERVER_IDENTIFIER", address(l.Server)},
		{"EXPIRY", strconv.FormatInt(started.Add(l.Bound+l.Length).Unix(), 10)},
	} {
		add("DHCP4_"+o.name, o.value)
	}
}

// leased6 adds what a DHCPv6 server gave, by the names of NetworkManager's own client.
func leased6(add func(name, value string), l dhcp6.Lease) {
	var addresses []netip.Addr
	for _, a := range l.Addresses {
		addresses = append(addresses, a.Addr)
	}
	add("DHCP6_IP6_ADDRESS", list(addresses))
	add("DHCP6_DHCP6_NAME_SERVERS", list(l.DNS))
	add("DHCP6_DHCP6_DOMAIN_SEARCH", strings.Join(l.Search, " "))
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func list(all []netip.Addr) string {
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
