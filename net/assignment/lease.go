package assignment

import (
	"net/netip"
	"time"

	"resinos/net/lease"
	"resinos/net/link"
)

// minLinkMTU is the smallest MTU of a link: below it the kernel removes IPv6 from the link. If a server names a smaller
// one, only the routes get it.
const minLinkMTU = 1280

// AddLease adds what a link should have because of a lease.
func AddLease(w *link.Wanted, l lease.Lease, metric int, now time.Duration) {
	routeMTU := 0
	if l.MTU != 0 {
		w.MTU = max(l.MTU, minLinkMTU)
	}
	if l.MTU != 0 && l.MTU < minLinkMTU {
		routeMTU = l.MTU
	}
	w.Addresses = append(w.Addresses, link.Address{Prefix: l.Address, Broadcast: l.Broadcast, Valid: l.Ends() - now})
	source := l.Address.Addr()
	add := func(destination netip.Prefix, gateway netip.Addr) {
		r := link.Route{Destination: destination, Source: source, Metric: metric, MTU: routeMTU}
		if gateway.IsValid() && !gateway.IsUnspecified() {
			r.Gateway = gateway
			r.OnLink = !l.Address.Contains(gateway)
		}
		w.Routes = append(w.Routes, r)
	}
	seen := map[netip.Prefix]bool{}
	if !l.Address.IsSingleIP() {
		seen[l.Address.Masked()] = true
		add(l.Address.Masked(), netip.Addr{})
	}
	for _, r := range l.Gateways() {
		if !seen[r.Destination] && r.Gateway != source {
			seen[r.Destination] = true
			add(r.Destination, r.Gateway)
		}
	}
}
