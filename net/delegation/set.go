package delegation

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/link"
	"resinos/net/linksource"
	"resinos/net/ndwatch"
	"resinos/net/netstate"
	"resinos/net/resolv"
)

// Set is the delegated prefixes of a device. Only the goroutine of netd calls its methods, and none blocks.
type Set struct {
	run, state string // directories of the files; empty: there is none
	log        *slog.Logger
	held       memory         // what the file in run says
	kept       memory         // what the file in state says, or will say
	numbers    map[string]int // of all that were shared
	sharing    []string       // the links that are shared now
	ups        []Uplink
	best       string // the uplink that counts
	given      map[string][]netstate.Network
	stale      map[string][]netstate.Network // what guests may still have from before the boot
	forget     time.Duration                 // when stale is over
	blocked    []netip.Prefix                // that have their route
	unknown    bool                          // the kernel may have routes of an earlier netd
	fault      string                        // the last one that was logged
	written    time.Duration                 // when state was written last; 0: never
	tasks      sync.WaitGroup
}

const (
	writePause = 10 * time.Minute // between two writes to flash
	staleLife  = 2 * time.Hour    // the longest that guests have used a network for since it was advertised
)

// New returns the set with what the files in run, which lasts a boot, and in state say. Empty directories are none.
func New(run, state string, log *slog.Logger) *Set {
	s := &Set{run: run, state: state, log: log, stale: map[string][]netstate.Network{}}
	load := func(dir string) (m memory, there bool) {
		if dir == "" {
			return m, false
		}
		m, err := read(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("delegated prefixes of before not usable", "error", err)
		}
		return m, err == nil
	}
	s.held, s.unknown = load(run)
	s.kept, _ = load(state)
	s.numbers = s.held.Numbers
	if !s.unknown { // a new boot
		s.numbers = s.kept.Numbers
		for _, u := range s.kept.Uplinks {
			for name, list := range Plan(u.lease(), s.kept.Numbers, nil) {
				s.stale[name] = append(s.stale[name], list...)
			}
		}
	}
	for _, u := range s.held.Uplinks {
		for name, list := range Plan(u.lease(), s.numbers, nil) { // until it is known which uplink counts
			if s.given == nil {
				s.given = map[string][]netstate.Network{}
			}
			s.given[name] = list
		}
	}
	return s
}

// Last returns what an earlier netd of this boot has got on an uplink; without prefixes: nothing.
func (s *Set) Last(name, hardware string) dhcp6.Lease { return s.held.of(name, hardware).lease() }

// Wish returns what a server is asked for on an uplink, for so many shared links.
func (s *Set) Wish(name, hardware string, shared int) netip.Prefix {
	return Wish(s.kept.of(name, hardware).prefixes(), shared)
}

// Update takes what uplinks have, in an order that stays, and which links are shared now. It reports whether shared
// links get something else than before, so that they have to be configured.
func (s *Set) Update(at time.Duration, ups []Uplink, shared []string) (changed bool) {
	if s.forget == 0 {
		s.forget = at + staleLife
	}
	if at >= s.forget {
		clear(s.stale)
	}
	s.ups, s.sharing = ups, shared
	numbers := Number(s.numbers, shared)
	given := map[string][]netstate.Network{}
	best, any := Best(ups, routed)
	if s.best = best.Link; any && len(shared) > 0 {
		taken, err := networks(shared)
		s.note(err)
		given = Plan(best.Lease, numbers, taken)
	}
	changed = !maps.EqualFunc(given, s.given, slices.Equal)
	s.given = given
	s.number(numbers)
	s.block()
	s.remember(at)
	return changed
}

// routed reports whether a router has announced a default route on an uplink.
func routed(u Uplink) bool {
	routers, _ := ndwatch.Gateways(u.Index) // what could be read counts
	return len(routers) > 0
}

// number keeps the numbers of links that are not shared now, so that they get the same again.
func (s *Set) number(now map[string]int) {
	out := maps.Clone(now)
	used := map[int]bool{}
	for _, n := range now {
		used[n] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.numbers)) {
		if _, has := out[name]; !has && !used[s.numbers[name]] && len(out) < maxShared {
			out[name] = s.numbers[name]
		}
	}
	if s.numbers = out; len(out) == 0 {
		s.numbers = nil // as a file has it
	}
}

// block has the kernel refuse packets for what is delegated and not given to a link.
func (s *Set) block() {
	var wanted []netip.Prefix
	for _, u := range s.ups {
		for _, p := range u.Lease.Prefixes {
			wanted = append(wanted, p.Prefix)
		}
	}
	if s.unknown {
		list, err := observe()
		s.note(err)
		s.blocked, s.unknown = list, err != nil
	}
	for _, step := range routes(wanted, s.blocked) {
		if err := apply(step); err != nil {
			s.note(err)
			s.unknown = true // it is tried again
			continue
		}
		s.log.Debug("link step", "step", step.String())
	}
	s.blocked = wanted
}

// remember writes what has changed.
func (s *Set) remember(at time.Duration) {
	held, kept := memory{}, memory{}
	for _, u := range s.ups {
		now, later := remembered(u)
		if len(u.Lease.Prefixes) > 0 && len(held.Uplinks) < maxUplinks {
			held.Uplinks, kept.Uplinks = append(held.Uplinks, now), append(kept.Uplinks, later)
		}
	}
	if len(held.Uplinks) > 0 || len(s.kept.Uplinks) > 0 {
		held.Numbers, kept.Numbers = s.numbers, s.numbers
	}
	for _, u := range s.kept.Uplinks { // what is not there now may come back
		if kept.of(u.Link, u.Hardware).Link == "" && len(kept.Uplinks) < maxUplinks {
			kept.Uplinks = append(kept.Uplinks, u)
		}
	}
	if s.run != "" && !reflect.DeepEqual(held, s.held) {
		s.note(held.write(s.run, false))
	}
	s.held = held
	if s.state == "" || reflect.DeepEqual(kept, s.kept) || s.written != 0 && at-s.written < writePause {
		return
	}
	s.kept, s.written = kept, at
	s.tasks.Go(func() { // the disk may be slow
		if err := kept.write(s.state, true); err != nil {
			s.log.Warn("delegated prefixes not kept for the next boot", "error", err)
		}
	})
}

// note logs a fault, but not the same again and again.
func (s *Set) note(err error) {
	if err != nil && err.Error() != s.fault {
		s.fault = err.Error()
		s.log.Warn("delegated prefixes not as wanted", "error", err)
	}
}

// Close waits until everything is written. Routes and networks stay.
func (s *Set) Close() { s.tasks.Wait() }

// Words describes what a link has to do with delegated prefixes; none: nothing.
func (s *Set) Words(name string) (out []string) {
	any := false
	for _, u := range s.ups {
		for _, p := range u.Lease.Prefixes {
			text := p.Prefix.String()
			any = any || u.Link == s.best
			switch {
			case u.Link == name && s.best == name:
				out = append(out, text+" is delegated to the device")
			case u.Link == name:
				out = append(out, text+" is delegated to the device, and not used: "+s.best+" is the better way out")
			}
		}
	}
	for _, n := range s.given[name] {
		out = append(out, fmt.Sprintf("%s of the prefix of %s", n.Prefix, s.best))
	}
	if any && len(s.given[name]) == 0 && slices.Contains(s.sharing, name) {
		out = append(out, "no network is left of the prefix of "+s.best+": guests get local addresses only")
	}
	return out
}

// Networks returns what a shared link has of delegated prefixes. What guests have to forget is in it, without
// lifetimes.
func (s *Set) Networks(name string) []netstate.Network {
	out := slices.Clone(s.given[name])
	for _, old := range s.stale[name] {
		if !slices.ContainsFunc(out, func(n netstate.Network) bool { return n.Prefix == old.Prefix }) {
			out = append(out, netstate.Network{Prefix: old.Prefix})
		}
	}
	return out
}

// Source returns the source of a shared link, which gives it its part of delegated prefixes. metric is that of the
// routes to them.
func (s *Set) Source(name string, metric int) linksource.Source { return source{s, name, metric} }

type source struct {
	set    *Set
	name   string
	metric int
}

// Want adds the addresses of the device in the networks, and the routes to these.
func (o source) Want(at time.Duration, w *link.Wanted) {
	for _, n := range o.set.given[o.name] {
		if n.Valid <= at {
			continue
		}
		w.Addresses = append(w.Addresses, link.Address{Prefix: n.Own(), Valid: min(n.Valid-at, link.Forever)})
		w.Routes = append(w.Routes, link.Route{Destination: n.Prefix, Metric: o.metric})
	}
}

// Report adds what guests are told.
func (o source) Report(l *netstate.Link) { l.Delegated = o.set.Networks(o.name) }

func (source) Names() (resolv.Source, bool) { return resolv.Source{}, false }
func (source) Carrier(time.Duration, bool)  {}
func (source) Renamed(time.Duration)        {}
func (source) Deadline() time.Duration      { return 0 }
func (source) Tick(time.Duration)           {}
func (source) Close()                       {}
