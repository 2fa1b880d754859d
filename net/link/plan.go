package link

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Verb is the kind of a step.
type Verb string

// The verbs, in the order in which a plan uses them.
const (
	SetHardware   Verb = "set hardware address"
	SetMaster     Verb = "set master"
	SetUp         Verb = "set up"
	SetMTU        Verb = "set mtu"
	SetSkipsDown  Verb = "skip routes without carrier"
	SetIPv6       Verb = "set ipv6"
	RemoveRoute   Verb = "remove route"
	RemoveAddress Verb = "remove address"
	PutAddress    Verb = "put address"
	PutRoute      Verb = "put route"
)

// Step is one change of one link. Only the fields of its verb are set.
type Step struct {
	Verb    Verb
	Link    string
	Index   int
	MTU     int
	Master  int
	Text    string // a hardware address
	Setting Setting
	Address Address
	Route   Route
}

// String returns the step as one line: "eth0: put address 10.0.2.15/24 valid 1h0m0s".
func (s Step) String() string {
	switch s.Verb {
	case SetMTU:
		return fmt.Sprintf("%s: %s %d", s.Link, s.Verb, s.MTU)
	case SetMaster:
		return fmt.Sprintf("%s: %s %d", s.Link, s.Verb, s.Master)
	case SetHardware:
		return fmt.Sprintf("%s: %s %s", s.Link, s.Verb, s.Text)
	case SetIPv6:
		value := s.Setting.Value
		if s.Setting.Name == stableSecret {
			value = "..."
		}
		return fmt.Sprintf("%s: %s %s=%s", s.Link, s.Verb, s.Setting.Name, value)
	case RemoveRoute, PutRoute:
		return fmt.Sprintf("%s: %s %s", s.Link, s.Verb, s.Route)
	case RemoveAddress, PutAddress:
		return fmt.Sprintf("%s: %s %s", s.Link, s.Verb, s.Address)
	default:
		return fmt.Sprintf("%s: %s", s.Link, s.Verb)
	}
}

// slack is the largest difference between two lifetimes that count as equal: the kernel counts whole seconds.
const slack = 2 * time.Second

// Plan returns the steps from actual to wanted; none if they agree. Old addresses are removed before new ones are
// added: a new address in the same subnet would be a secondary of the old one and be removed with it. Addresses and
// routes of others stay.
func Plan(w Wanted, a Actual) []Step {
	var steps []Step
	add := func(s Step) {
		s.Link, s.Index = a.Link.Name, a.Link.Index
		steps = append(steps, s)
	}
	if w.Hardware != "" && !strings.EqualFold(w.Hardware, a.Link.Hardware) {
		add(Step{Verb: SetHardware, Text: w.Hardware})
	}
	if w.Master != nil && *w.Master != a.Link.Master {
		add(Step{Verb: SetMaster, Master: *w.Master})
	}
	planIPv6(w, a, add)
	if w.Up && !a.Link.Up {
		add(Step{Verb: SetUp})
	}
	if w.MTU != 0 && w.MTU != a.Link.MTU {
		add(Step{Verb: SetMTU, MTU: w.MTU})
	}
	if w.SkipsDown && !a.SkipsDown {
		add(Step{Verb: SetSkipsDown})
	}
	planRoutesAway(w, a, add)
	removed := planAddresses(w, a, add)
	for _, r := range w.Routes {
		// The kernel drops a route together with its source address, even if the address returns with another prefix.
		if !slices.Contains(a.Routes, r) || slices.Contains(removed, r.Source) {
			add(Step{Verb: PutRoute, Route: r})
		}
	}
	return steps
}

// planIPv6 plans the settings of IPv6, before the link is up: then it sends its first packets. The kernel keeps the
// addresses that it made in another way, so IPv6 is off for a moment where the way changes; what else is lost by that
// is put again with the next look at the link.
func planIPv6(w Wanted, a Actual, add func(Step)) {
	var changes []Setting
	renew := false
	for _, s := range w.IPv6 {
		if now, there := a.IPv6[s.Name]; there && now != s.Value {
			changes = append(changes, s)
			renew = renew || s.Name == "addr_gen_mode" && a.Link.Up && a.IPv6["disable_ipv6"] == "0"
		}
	}
	if renew {
		add(Step{Verb: SetIPv6, Setting: Setting{Name: "disable_ipv6", Value: "1"}})
	}
	for _, s := range changes {
		if !renew || s.Name != "disable_ipv6" {
			add(Step{Verb: SetIPv6, Setting: s})
		}
	}
	if renew && !slices.Contains(changes, Setting{Name: "disable_ipv6", Value: "1"}) {
		add(Step{Verb: SetIPv6, Setting: Setting{Name: "disable_ipv6", Value: "0"}})
	}
}

// planRoutesAway removes routes that no wanted route replaces. One with a wanted key is left to PutRoute, so that a
// default route is never missing between two steps.
func planRoutesAway(w Wanted, a Actual, add func(Step)) {
	kept := make(map[routeKey]bool, len(w.Routes))
	for _, r := range w.Routes {
		kept[r.key()] = true
	}
	for _, r := range a.Routes {
		if !kept[r.key()] {
			add(Step{Verb: RemoveRoute, Route: r})
		}
	}
}

// planAddresses plans the addresses and returns the removed ones.
func planAddresses(w Wanted, a Actual, add func(Step)) (removed []netip.Addr) {
	for _, have := range a.Addresses {
		if have.Ours && !hasPrefix(w.Addresses, have) {
			add(Step{Verb: RemoveAddress, Address: have})
			removed = append(removed, have.Prefix.Addr())
		}
	}
	for _, want := range w.Addresses {
		if !hasAddress(a.Addresses, want) {
			add(Step{Verb: PutAddress, Address: want})
		}
	}
	return removed
}

func hasPrefix(list []Address, a Address) bool {
	for _, have := range list {
		if have.Prefix == a.Prefix {
			return true
		}
	}
	return false
}

func hasAddress(list []Address, a Address) bool {
	for _, have := range list {
		// An address of somebody else is left alone. When it expires, the link changes and is looked at again.
		if have.Prefix == a.Prefix && (!have.Ours || (have.Valid-a.Valid).Abs() <= slack) {
			return true
		}
	}
	return false
}
