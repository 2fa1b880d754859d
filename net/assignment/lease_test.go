package assignment

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"resinos/net/lease"
	"resinos/net/link"
)

func TestAddLease(t *testing.T) {
	l := lease.Lease{
		Address: netip.MustParsePrefix("10.9.0.50/24"), Bound: 10 * time.Second, Length: time.Hour,
		Routers: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
	}
	route := func(dst, gateway string) lease.Route {
		return lease.Route{Destination: netip.MustParsePrefix(dst), Gateway: netip.MustParseAddr(gateway)}
	}
	for _, tt := range []struct {
		name   string
		change func(*lease.Lease)
		mtu    int
		routes []string
	}{
		{"plain", func(l *lease.Lease) {}, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "default via 10.9.0.1 src 10.9.0.50 metric 102"}},
		{"one address, router outside", func(l *lease.Lease) {
			l.Address = netip.MustParsePrefix("10.9.0.50/32")
		}, 1500, []string{"default via 10.9.0.1 src 10.9.0.50 metric 102 onlink"}},
		{"mtu for the link", func(l *lease.Lease) { l.MTU = 1400 }, 1400, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "default via 10.9.0.1 src 10.9.0.50 metric 102"}},
		{"mtu for the routes", func(l *lease.Lease) { l.MTU = 600 }, 1280, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102 mtu 600",
			"default via 10.9.0.1 src 10.9.0.50 metric 102 mtu 600"}},
		{"we are the router", func(l *lease.Lease) { l.Routers[0] = l.Address.Addr() }, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102"}},
		{"classless routes, some twice", func(l *lease.Lease) {
			l.Routes = []lease.Route{route("10.9.0.0/24", "10.9.0.7"), route("10.8.0.0/16", "10.9.0.2"),
				route("10.8.0.0/16", "10.9.0.3"), route("192.0.2.1/32", "0.0.0.0")}
		}, 1500, []string{
			"10.9.0.0/24 scope link src 10.9.0.50 metric 102", "10.8.0.0/16 via 10.9.0.2 src 10.9.0.50 metric 102",
			"192.0.2.1/32 scope link src 10.9.0.50 metric 102"}},
	} {
		l := l
		l.Routers = slices.Clone(l.Routers)
		tt.change(&l)
		w := link.Wanted{MTU: 1500}
		AddLease(&w, l, 102, 40*time.Second)
		var routes []string
		for _, r := range w.Routes {
			routes = append(routes, r.String())
		}
		if w.MTU != tt.mtu || !slices.Equal(routes, tt.routes) || w.Addresses[0].Valid != time.Hour-30*time.Second {
			t.Errorf("%s: mtu %d, %s, routes %q; want mtu %d, routes %q", tt.name, w.MTU, w.Addresses[0], routes,
				tt.mtu, tt.routes)
		}
	}
}
