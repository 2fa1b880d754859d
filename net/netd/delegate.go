package netd

import (
	"maps"
	"slices"
	"time"

	"resinos/net/autoconf"
	"resinos/net/delegation"
)

// takesPrefixes reports whether a link gives others addresses of IPv6 in a network that netd chooses.
func (c *claim) takesPrefixes() bool {
	return c.static.Shares6 && c.entry != nil && len(c.entry.Profile.IPv6.Addresses) == 0
}

// delegate asks for prefixes while links need them, and gives each of these its part of what there is.
func (d *daemon) delegate(at time.Duration) {
	var shared []string
	for _, c := range d.claims {
		if c.takesPrefixes() {
			shared = append(shared, c.link.Name)
		}
	}
	var ups []delegation.Uplink
	for _, index := range slices.Sorted(maps.Keys(d.claims)) {
		c := d.claims[index]
		for _, s := range c.sources {
			if r, is := s.(*autoconf.Source); is {
				u := delegation.Uplink{Link: c.link.Name, Hardware: c.link.Hardware, Index: index,
					Carrier: c.link.Carrier, Metric: c.metric6()}
				r.Delegate(at, len(shared) > 0, d.delegated.Wish(u.Link, u.Hardware, len(shared)))
				u.Lease = r.Delegated()
				ups = append(ups, u)
			}
		}
	}
	if !d.delegated.Update(at, ups, shared) {
		return
	}
	for _, c := range d.claims {
		if c.takesPrefixes() {
			d.configure(at, c)
		}
	}
}
