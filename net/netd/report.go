package netd

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"resinos/net/assignment"
	"resinos/net/netstate"
	"resinos/net/profile"
	"resinos/net/reach"
	"resinos/net/sharing"
	"resinos/net/vpnserver"
)

// publish tells others what has changed, if anything has.
func (d *daemon) publish(at time.Duration) {
	if d.cfg.Changed == nil {
		return
	}
	if now := d.report(at); d.published == nil || !reflect.DeepEqual(*d.published, now) {
		d.published = &now
		d.cfg.Changed(now)
		d.avoid(at)
	}
}

// report returns the links as they are configured.
func (d *daemon) report(at time.Duration) netstate.State {
	s := netstate.State{Hostname: d.hostname()}
	best := reach.Unknown
	for _, index := range slices.Sorted(maps.Keys(d.claims)) {
		c := d.claims[index]
		l := netstate.Link{Name: c.link.Name, Index: index, Hardware: c.link.Hardware, Carrier: c.link.Carrier,
			Shared: c.static.Shared, Shared6: c.static.Shared6}
		if c.entry != nil {
			p := c.entry.Profile
			l.Written = c.written
			l.File, l.ID, l.UUID = c.entry.File, p.Connection.ID, p.Connection.UUID
			l.Tunnel = p.Connection.Type == profile.TypeWireGuard || p.Connection.Type == profile.TypeVPN
			if w := p.WireGuard; w != nil && p.Connection.Type == profile.TypeWireGuard {
				l.Listens = uint16(w.ListenPort)
			}
			l.Listens = max(l.Listens, vpnserver.Port(p))
			l.Plain = p.IPv4 == nil || p.Connection.PortType != "" || p.IPv4.Method == profile.Disabled
		}
		w := c.wanted(at)
		for _, a := range w.Addresses {
			l.Addresses = append(l.Addresses, a.Prefix)
		}
		for _, r := range w.Routes {
			l.Routes = append(l.Routes,
				netstate.Route{Destination: r.Destination, Gateway: r.Gateway, Metric: r.Metric})
		}
		for _, source := range c.sources {
			if names, any := source.Names(); any {
				l.Servers, l.Search = append(l.Servers, names.Servers...), append(l.Search, names.Search...)
			}
			if server, is := source.(interface{ Report(*netstate.Link) }); is {
				server.Report(&l)
			}
		}
		s.Links = append(s.Links, l)
		best = max(best, d.reach.Finding(index).State)
	}
	s.Reach = reachWords[best]
	return s
}

// reachWords are the words of NetworkManager for what a device reaches.
var reachWords = [...]string{reach.Unknown: "", reach.None: "NONE", reach.Limited: "LIMITED", reach.Portal: "PORTAL",
	reach.Gateway: "FULL", reach.Full: "FULL"}

// written returns when a key file was written; 0 if it is gone already.
func (d *daemon) written(e *assignment.Entry) int64 {
	if e == nil {
		return 0
	}
	info, err := os.Stat(filepath.Join(d.cfg.KeyFiles, e.File))
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// share chooses the network of a shared link whose owner names none: the one that it has already, else the first that
// no other link uses.
func (d *daemon) share(s *assignment.Static, index int, name string) {
	if s.Shares && !s.Shared.IsValid() {
		own, others := sharing.Addresses(index)
		s.Share(sharing.Choose(own, others))
	}
	if s.Shares6 && !s.Shared6.IsValid() {
		s.Share(sharing.Local(d.cfg.Identity, name))
	}
}

// avoid chooses another network for a shared link if a link has got an address in it meanwhile.
func (d *daemon) avoid(at time.Duration) {
	for index, c := range d.claims {
		if !c.static.Shares || c.entry == nil || len(c.entry.Profile.IPv4.Addresses) > 0 {
			continue
		}
		_, others := sharing.Addresses(index)
		if sharing.Choose([]netip.Prefix{c.static.Shared}, others) != c.static.Shared {
			d.release(c, "its network is in use on another link")
			d.look(at, index)
			return // the next change shows whether another one is left
		}
	}
}
