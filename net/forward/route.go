package forward

import (
	"net/netip"
	"slices"

	"resinos/net/dnswire"
	"resinos/net/resolv"
)

// route is one source of servers, ready for questions.
type route struct {
	servers  []netip.AddrPort
	domains  []dnswire.Name
	fallback bool
}

// port is that of name servers.
const port = 53

// routesOf puts the sources in the order in which their servers are asked. Domains that are no names are left out.
func routesOf(sources []resolv.Source) []route {
	var out []route
	for _, s := range resolv.Ordered(sources) {
		r := route{fallback: s.Fallback}
		for _, a := range s.Servers {
			if a.IsValid() && !a.IsUnspecified() && a != Address {
				r.servers = append(r.servers, netip.AddrPortFrom(a, port))
			}
		}
		for _, text := range slices.Concat(s.Search, s.Domains) {
			if n, err := dnswire.NameOf(text); err == nil && n.Labels() > 0 {
				r.domains = append(r.domains, n)
			}
		}
		if len(r.servers) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// choose returns the servers for a name. The links with the longest domain that holds the name are asked, and no
// others; for other names all servers are asked, and the fallback only where there is no other server. A private name
// never goes to the fallback.
func choose(routes []route, name dnswire.Name) []netip.AddrPort {
	longest := 0
	var within, others, last []netip.AddrPort
	for _, r := range routes {
		length := 0
		for _, d := range r.domains {
			if name.Within(d) {
				length = max(length, len(d))
			}
		}
		switch {
		case r.fallback:
			last = append(last, r.servers...)
			continue
		case length > longest:
			longest, within = length, nil
		}
		if length == longest && length > 0 {
			within = append(within, r.servers...)
		}
		others = append(others, r.servers...)
	}
	switch {
	case len(within) > 0:
		return unique(within)
	case len(others) > 0:
		return unique(others)
	case private(name):
		return nil
	}
	return unique(last)
}

// maxServers bounds the servers that one question asks.
const maxServers = 8

func unique(servers []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range servers {
		if !slices.Contains(out, s) && len(out) < maxServers {
			out = append(out, s)
		}
	}
	return out
}

// The domains that mean something only within a network (RFC 6303, 6761, 6762, 7788, 8375 and common use), and those
// that exist nowhere.
var (
	privateDomains = names("10.in-addr.arpa", "168.192.in-addr.arpa", "254.169.in-addr.arpa", "c.f.ip6.arpa",
		"d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa", "corp", "home",
		"home.arpa", "internal", "intranet", "lan", "local", "localdomain", "private", "test",
		"16.172.in-addr.arpa", "17.172.in-addr.arpa", "18.172.in-addr.arpa", "19.172.in-addr.arpa",
		"20.172.in-addr.arpa", "21.172.in-addr.arpa", "22.172.in-addr.arpa", "23.172.in-addr.arpa",
		"24.172.in-addr.arpa", "25.172.in-addr.arpa", "26.172.in-addr.arpa", "27.172.in-addr.arpa",
		"28.172.in-addr.arpa", "29.172.in-addr.arpa", "30.172.in-addr.arpa", "31.172.in-addr.arpa")
	nowhere   = names("invalid", "onion", "0.in-addr.arpa", "127.in-addr.arpa")
	localhost = dnswire.Must("localhost")
)

func names(texts ...string) []dnswire.Name {
	var out []dnswire.Name
	for _, t := range texts {
		out = append(out, dnswire.Must(t))
	}
	return out
}

func within(name dnswire.Name, domains []dnswire.Name) bool {
	return slices.ContainsFunc(domains, name.Within)
}

// private reports whether only the network that the device is in can know the name.
func private(name dnswire.Name) bool { return name.Labels() == 1 || within(name, privateDomains) }
