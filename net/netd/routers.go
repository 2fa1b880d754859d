package netd

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"resinos/net/assignment"
	"resinos/net/autoconf"
	"resinos/net/dhcp6"
	"resinos/net/link"
	"resinos/net/ndwatch"
	"resinos/net/profile"
	"resinos/net/reach"
)

// watchRouters passes on what IPv6 routers say until stop.
func (d *daemon) watchRouters() (stop func()) {
	gone := make(chan struct{})
	w, err := ndwatch.Watch(func(e ndwatch.Event) bool {
		select {
		case d.events <- func(at time.Duration) { d.router(at, e) }:
			return true
		case <-gone:
			return false
		}
	})
	if err != nil {
		d.cfg.Log.Warn("IPv6 routers not heard", "error", err)
		return func() {}
	}
	return func() {
		close(gone)
		w.Close()
	}
}

func (d *daemon) router(at time.Duration, e ndwatch.Event) {
	c := d.claims[e.Index]
	if c == nil {
		return
	}
	d.stale = true // they may have brought a default route
	for _, s := range c.sources {
		if r, is := s.(*autoconf.Source); is {
			r.Router(at, e)
		}
	}
}

// newAutoconf returns the source that follows the IPv6 routers of a link. One that is up already may have heard them
// before.
func (d *daemon) newAutoconf(at time.Duration, c *claim, actual link.Actual) *autoconf.Source {
	ip := &profile.IP{SendHostname: true}
	if c.entry != nil && c.entry.Profile.IPv6 != nil {
		ip = c.entry.Profile.IPv6
	}
	hint, _ := netip.ParsePrefix(ip.PDHint)      // without one, it is not valid
	hardware, _ := net.ParseMAC(c.link.Hardware) // the kernel wrote it
	s := autoconf.New(autoconf.Config{
		Link: c.link, Metric: c.metric, IgnoreDNS: ip.IgnoreDNS, Always: c.static.DHCP6, Hold: d.cfg.Hold, Hint: hint,
		DUID: dhcp6.DUID(ip.DUID, d.cfg.Identity, hardware), Random: random, Owner: d.owner(c), Log: c.log,
		Hostname: func() string {
			switch {
			case !ip.SendHostname:
				return ""
			case ip.DHCPHostname != "":
				return ip.DHCPHostname
			}
			return d.hostname()
		},
	})
	s.Adopt(at, actual, d.delegated.Last(c.link.Name, c.link.Hardware))
	if actual.Link.Up && actual.Link.Carrier {
		d.solicit(c.link.Index)
	}
	return s
}

// solicit has the routers of a link say again what they have to say.
func (d *daemon) solicit(index int) {
	if err := ndwatch.Solicit(index); err != nil {
		d.cfg.Log.Debug("IPv6 routers not asked", "error", err) // the kernel asks them when the link comes up
	}
}

// restoreIPv6 remembers the settings of IPv6 before a profile changes them, and restores them once for a link without
// one.
func (c *claim) restoreIPv6(actual link.Actual) {
	before, changed := c.daemon.sixes[c.link.Index]
	switch {
	case c.entry == nil && changed:
		delete(c.daemon.sixes, c.link.Index)
		now := link.Actual{Link: actual.Link, IPv6: actual.IPv6} // nothing else is planned
		c.daemon.apply(link.Plan(link.Wanted{IPv6: before}, now), c.log)
		return
	case c.entry == nil, changed:
		return
	}
	for _, name := range slices.Sorted(maps.Keys(actual.IPv6)) {
		if name != assignment.StableSecret && name != ndwatch.RouterMetric {
			before = append(before, link.Setting{Name: name, Value: actual.IPv6[name]})
		}
	}
	c.daemon.sixes[c.link.Index] = before
}

// routerMetric adds the metric that default routes of IPv6 routers get: that of the link, or a worse one.
func (c *claim) routerMetric(w *link.Wanted) {
	if !c.static.Routers {
		return
	}
	for i, s := range w.IPv6 {
		if s.Name == ndwatch.RouterMetric {
			w.IPv6 = append(w.IPv6[:i:i], w.IPv6[i+1:]...)
			break
		}
	}
	w.IPv6 = append(slices.Clip(w.IPv6), link.Setting{Name: ndwatch.RouterMetric, Value: strconv.Itoa(c.metric6())})
}

// metric6 returns the metric of the default routes of a link's routers as they are to be now.
func (c *claim) metric6() int {
	metric := c.metric
	if c.entry != nil {
		metric = cmp.Or(c.static.Metric6, 1024) // the kernel's own reading of 0
	}
	if c.daemon.reach.Penalised()[c.link.Index] {
		metric += reach.Penalty
	}
	return metric
}

// random returns a number that a stranger cannot guess.
func random() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return binary.NativeEndian.Uint32(b[:])
}
