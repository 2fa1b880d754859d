// Package ownlink owns the links that profiles ask for: bridges, bonds, vlans, dummies and wireguard links. It creates
// them, sets their options and those of their ports, and removes those that no profile asks for any more.
//
// It never touches a link of somebody else, such as the engine's bridge: ours are in the group link.Mark, which the
// kernel gives a link in the moment of its creation, so that a later life of netd finds each of them. It gives no link
// an address (assignment and link do), and sets no key or peer of wireguard (wireguard does).
//
// Read first: Plan.
package ownlink

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"resinos/net/assignment"
	"resinos/net/profile"
)

// Actual is one link as the kernel reports it, with the options of its kind and those that it has as a port.
type Actual struct {
	Index    int
	Name     string
	Kind     string // IFLA_INFO_KIND; empty for hardware
	Ours     bool   // it is in the group link.Mark
	Hardware string // its address, in capitals
	Parent   int    // index of the link that a vlan is on
	Master   int    // index of the bridge or bond that it is a port of

	options map[uint16][]byte // of its kind, by the kernel's number
	port    map[uint16][]byte // as a port
	vlans   []vlan            // of a port of a bridge, or of a bridge itself
}

// option is one option of a link or port, as the kernel takes and reports it.
type option struct {
	name   string // as key files call it
	number uint16
	value  []byte
	text   string // the value for people
	fixed  bool   // the kernel takes it only from a new link
	unless bool   // the kernel does not report it while it has this value
}

// wanted is a link that is to be there.
type wanted struct {
	file, name, kind string
	parent           int // of a vlan; 0: none
	options          []option
	vlans            []vlan // of a bridge that filters them; nil: it does not
}

// Verb is the kind of a Step.
type Verb string

// The verbs, in the order in which a plan uses them.
const (
	Remove    Verb = "remove"
	Create    Verb = "create"
	Set       Verb = "set"
	DropVLANs Verb = "drop vlans"
	PutVLANs  Verb = "put vlans"
)

// Step is one change. Only the fields of its verb are set.
type Step struct {
	Verb Verb
	File string // the key file that asks for it; empty if none does any more
	Link string

	index, parent int
	kind          string
	port          bool // the option is one that the link has as a port
	self          bool // the vlans are those of the bridge itself
	options       []option
	vlan          vlan
}

// String returns the step as one line: "create bond bond0, mode active-backup", "br0: set ageing-time 60".
func (s Step) String() string {
	var b strings.Builder
	switch s.Verb {
	case Create, Remove:
		fmt.Fprintf(&b, "%s %s %s", s.Verb, s.kind, s.Link)
		for _, o := range s.options {
			fmt.Fprintf(&b, ", %s %s", o.name, o.text)
		}
	case Set:
		fmt.Fprintf(&b, "%s: %s %s %s", s.Link, s.Verb, s.options[0].name, s.options[0].text)
	default:
		fmt.Fprintf(&b, "%s: %s %s", s.Link, s.Verb, s.vlan)
	}
	return b.String()
}

// Result is what Plan found.
type Result struct {
	Steps  []Step
	Faults map[string]string // by key file: why its link cannot be there
}

// Plan returns the steps from the actual links to those that the profiles of entries ask for, and to the options of the
// ports that assigned names by index. A link that has to be created gets its options in a second plan, when it is
// there.
func Plan(entries []assignment.Entry, assigned map[int]assignment.Entry, actual []Actual) Result {
	p := planner{actual: actual, entries: entries, Result: Result{Faults: map[string]string{}}}
	asked := map[string]wanted{}
	for _, e := range entries {
		w, created, why := p.wanted(e)
		switch other, twice := asked[w.name]; {
		case !created:
		case why != "":
			p.Faults[e.File] = why
		case twice:
			p.fault(e.File, "create %s %s: %s asks for a link with this name too", w.kind, w.name, other.file)
		default:
			asked[w.name] = w
		}
	}
	p.links(asked)
	for _, a := range actual {
		if e, there := assigned[a.Index]; there && e.Profile.Connection.PortType != "" {
			p.asPort(a, e)
		}
	}
	return p.Result
}

type planner struct {
	Result
	actual  []Actual
	entries []assignment.Entry
}

func (p *planner) fault(file, format string, args ...any) {
	p.Faults[file] = fmt.Sprintf(format, args...)
}

func (p *planner) add(s Step) { p.Steps = append(p.Steps, s) }

// links plans the links themselves.
func (p *planner) links(asked map[string]wanted) {
	var missing []wanted
	for _, a := range p.actual {
		w, wants := asked[a.Name]
		delete(asked, a.Name)
		switch {
		case !a.Ours && wants:
			const theirs = "create %s %s: somebody else has a link with this name, which stays as it is"
			p.fault(w.file, theirs, w.kind, w.name)
		case !a.Ours:
		case !wants:
			p.add(Step{Verb: Remove, Link: a.Name, index: a.Index, kind: a.Kind})
		case another(w, a):
			p.add(Step{Verb: Remove, File: w.file, Link: a.Name, index: a.Index, kind: a.Kind})
			missing = append(missing, w)
		default:
			p.options(Step{File: w.file, Link: a.Name, index: a.Index, kind: a.Kind}, w.options, a.options)
			p.vlans(w.file, a, w.vlans, true)
		}
	}
	for _, w := range asked {
		missing = append(missing, w)
	}
	slices.SortStableFunc(missing, func(a, b wanted) int { return cmp.Compare(a.name, b.name) })
	for _, w := range missing {
		later := func(o option) bool { return !o.fixed || len(o.value) == 0 }
		first := slices.DeleteFunc(slices.Clone(w.options), later)
		p.add(Step{Verb: Create, File: w.file, Link: w.name, kind: w.kind, parent: w.parent, options: first})
	}
}

// another reports whether only a new link can be as wanted.
func another(w wanted, a Actual) bool {
	return w.kind != a.Kind || w.parent != 0 && w.parent != a.Parent ||
		slices.ContainsFunc(w.options, func(o option) bool {
			_, reported := a.options[o.number]
			return o.fixed && reported && o.differs(a.options)
		})
}

// differs reports whether the kernel's options hold another value.
func (o option) differs(now map[uint16][]byte) bool {
	have, there := now[o.number]
	if !there {
		return !o.unless
	}
	if len(have) == 8 && len(o.value) == 8 { // an interval, which the kernel keeps in ticks of its own
		return binary.NativeEndian.Uint64(have)-binary.NativeEndian.Uint64(o.value)+1 > 2
	}
	return !bytes.Equal(have, o.value)
}

// options plans the options that differ. The kernel changes the first vlan of ports only while no vlan is filtered.
func (p *planner) options(s Step, list []option, now map[uint16][]byte) {
	s.Verb = Set
	for _, o := range list {
		if o.fixed || !o.differs(now) {
			continue
		}
		if o.name == pvidKey && len(now[filtering]) == 1 && now[filtering][0] == 1 {
			s.options = []option{{name: "vlan-filtering", number: filtering, value: []byte{0}, text: "false"}}
			p.add(s)
			now = withValue(now, filtering, []byte{0})
		}
		s.options = []option{o}
		p.add(s)
	}
}

func withValue(all map[uint16][]byte, number uint16, value []byte) map[uint16][]byte {
	out := map[uint16][]byte{}
	for n, v := range all {
		out[n] = v
	}
	out[number] = value
	return out
}

// asPort plans the options that a link has as a port of a bridge or bond.
func (p *planner) asPort(a Actual, e assignment.Entry) {
	c := e.Profile.Connection
	i := slices.IndexFunc(p.actual, func(m Actual) bool { return m.Index == a.Master })
	if a.Master == 0 || i < 0 || p.actual[i].Kind != c.PortType {
		return // it joins later, which is a change of the link
	}
	s := Step{File: e.File, Link: a.Name, index: a.Index, kind: c.PortType, port: true}
	switch {
	case e.Profile.BridgePort != nil && c.PortType == "bridge":
		p.options(s, bridgePort(e.Profile.BridgePort), a.port)
		bridge := p.profileOf(p.actual[i].Name)
		if p.actual[i].Ours && bridge != nil && bridge.VLANFiltering {
			list, why := vlansOf(e.Profile.BridgePort.VLANs, bridge.VLANDefaultPVID)
			if why != "" {
				p.Faults[e.File] = "[bridge-port] vlans: " + why
			}
			p.vlans(e.File, a, list, false)
		}
	case e.Profile.BondPort != nil && c.PortType == "bond":
		p.options(s, bondPort(e.Profile.BondPort), a.port)
	}
}

// profileOf returns the section of the profile of a bridge; nil: there is none.
func (p *planner) profileOf(bridge string) *profile.Bridge {
	for _, e := range p.entries {
		if e.Profile.Connection.Type == profile.TypeBridge && e.Profile.LinkName() == bridge {
			return e.Profile.Bridge
		}
	}
	return nil
}
