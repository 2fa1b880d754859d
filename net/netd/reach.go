package netd

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"resinos/net/link"
	"resinos/net/ndwatch"
	"resinos/net/reach"
)

// refresh tells the set of uplinks which there are, if that may have changed.
func (d *daemon) refresh(at time.Duration) {
	if !d.stale {
		return
	}
	var uplinks []reach.Uplink
	for _, index := range slices.Sorted(maps.Keys(d.claims)) {
		if u, is := d.uplink(at, d.claims[index]); is {
			uplinks = append(uplinks, u)
		}
	}
	if d.reach.Update(at, uplinks) {
		d.reprioritise(at)
	}
	d.stale = false
}

// reprioritise gives all links the metrics that follow from how far each gets.
func (d *daemon) reprioritise(at time.Duration) {
	for _, c := range d.claims {
		d.configure(at, c)
	}
	d.writeResolv()
}

// tunnels are the types of links that never lose their priority: what is meant for a tunnel must not leave the device
// beside it because the other end is silent. A dummy leads nowhere at all.
var tunnels = []string{"wireguard", "tuntap", "ipip", "gre", "sit", "vti", "xfrm", "dummy"}

// uplink describes a link that has a default route.
func (d *daemon) uplink(at time.Duration, c *claim) (u reach.Uplink, is bool) {
	u = reach.Uplink{Index: c.link.Index, Name: c.link.Name, Hardware: c.link.Hardware, Metric: c.metric}
	if !c.link.Carrier || slices.Contains(tunnels, c.link.Type) {
		return u, false
	}
	var w link.Wanted
	for _, s := range c.sources {
		s.Want(at, &w)
		if names, any := s.Names(); any {
			u.Servers = append(u.Servers, names.Servers...)
		}
	}
	for _, r := range w.Routes {
		if r.Destination.Bits() != 0 || r.Table != 0 {
			continue
		}
		u.Four, u.Six = u.Four || r.Destination.Addr().Is4(), u.Six || r.Destination.Addr().Is6()
		if r.Gateway.IsValid() {
			u.Gateways = append(u.Gateways, r.Gateway)
		}
	}
	routers, err := ndwatch.Gateways(c.link.Index)
	if err != nil {
		c.log.Warn("routes of the kernel not read", "error", err)
	}
	u.Six = u.Six || len(routers) > 0
	u.Gateways = append(u.Gateways, routers...)
	if len(u.Servers) == 0 {
		u.Servers = d.wish.servers
	}
	return u, u.Four || u.Six
}

// lower takes the priority from the default routes of a link that does not get far enough.
func (d *daemon) lower(index int, w *link.Wanted) {
	if !d.reach.Penalised()[index] {
		return
	}
	for i, r := range w.Routes {
		if r.Destination.Bits() == 0 {
			w.Routes[i].Metric = cmp.Or(r.Metric, 1) + reach.Penalty
		}
	}
}
