// Package assignment owns the two decisions between profiles and links: which profile is for which link, and what a
// link should have because of its profile.
//
// It is pure: it reads no files and asks no kernel. What DHCP adds is added by netd.
//
// Read first: Assign, then Wanted.
package assignment

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"resinos/net/link"
	"resinos/net/profile"
)

// Entry is a profile with the file that it comes from.
type Entry struct {
	File    string
	Profile profile.Profile
}

// State is what Assign looks at besides the profiles.
type State struct {
	Links       []link.Link
	Held        map[int]string    // by index of the link: the file of the profile that it has
	Down        map[string]bool   // by file: taken down by a person
	Up          map[string]bool   // by file: brought up by a person, though its autoconnect is false
	CommandLine []string          // of the kernel
	Joined      map[string]string // by name of the radio: the file of the network that it is in, or was last
	Tunnels     map[string]Entry  // by name of the link: what a tunnel of openvpn gives it
	Bearers     map[string]string // by name of the link: the file of the profile that a modem has connected it for
}

// wanted reports whether a profile may be used.
func (s State) wanted(e Entry) bool {
	return e.Profile.Connection.Autoconnect && !s.Down[e.File] || s.Up[e.File]
}

// Assign returns the profile of each link that has one, by index. A link keeps its profile while no better one is for
// it, and a profile is for one link unless its multi-connect says otherwise.
func Assign(entries []Entry, s State) map[int]Entry {
	links := slices.Clone(s.Links)
	slices.SortStableFunc(links, func(a, b link.Link) int {
		_, heldA := s.Held[a.Index]
		_, heldB := s.Held[b.Index]
		switch {
		case heldA != heldB && heldA:
			return -1
		case heldA != heldB:
			return 1
		}
		return cmp.Compare(a.Index, b.Index)
	})
	out, used := map[int]Entry{}, map[string]bool{}
	radios := Radios(entries, s)
	for _, l := range links {
		if fit := radios[l.Index]; l.Kind == link.Wifi && len(fit) > 0 {
			out[l.Index] = s.inRadio(l, fit)
		}
		if e, is := s.Tunnels[l.Name]; is && l.Type == "tuntap" {
			out[l.Index] = e
			continue
		}
		if e, connected := s.bearer(entries, l); connected {
			out[l.Index] = e
		}
		if l.Kind == link.Loopback || l.Kind == link.Wifi || l.Kind == link.Modem {
			continue
		}
		best, found := Entry{}, false
		for _, e := range entries {
			if !s.wanted(e) || used[e.File] || !Fits(e.Profile, l, s.CommandLine) {
				continue
			}
			if !found || better(e, best, s.Held[l.Index]) {
				best, found = e, true
			}
		}
		if found {
			out[l.Index] = best
			used[best.File] = best.Profile.Connection.MultiConnect != multiple
		}
	}
	return out
}

// bearer returns the profile that the modem of a link is connected for.
func (s State) bearer(entries []Entry, l link.Link) (Entry, bool) {
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.File == s.Bearers[l.Name] && s.wanted(e) })
	if l.Kind != link.Modem || i < 0 || entries[i].Profile.Connection.Type != profile.TypeGSM {
		return Entry{}, false
	}
	return entries[i], true
}

// Modems returns the profiles that modems are wanted for, the best one first.
func Modems(entries []Entry, s State) []Entry {
	var out []Entry
	for _, e := range entries {
		if e.Profile.Connection.Type == profile.TypeGSM && e.Profile.GSM != nil && s.wanted(e) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		if better(a, b, "") {
			return -1
		}
		return 1
	})
	return out
}

// multiple is the value of multi-connect that allows several links at once.
const multiple = 3

// better reports whether a goes before b for a link that has the profile of file held.
func better(a, b Entry, held string) bool {
	of := func(e Entry) []int {
		holds := 0
		if e.File == held {
			holds = 1
		}
		return []int{int(e.Profile.Connection.Priority), specific(e.Profile), holds}
	}
	if c := slices.Compare(of(a), of(b)); c != 0 {
		return c > 0
	}
	return a.File < b.File
}

// specific counts how narrowly a profile says which link it is for.
func specific(p profile.Profile) int {
	n := 0
	if p.Connection.InterfaceName != "" {
		n += 16
	}
	if p.Ethernet != nil && p.Ethernet.MAC != "" || p.WiFi != nil && p.WiFi.MAC != "" {
		n += 8
	}
	if m := p.Match; m != nil {
		n += 4*min(len(m.InterfaceNames), 1) + 2*min(len(m.Paths), 1) + min(len(m.Drivers), 1)
	}
	return n
}

// Fits reports whether a profile can be for a link.
func Fits(p profile.Profile, l link.Link, commandLine []string) bool {
	c := p.Connection
	if !fitsKind(p, l) || p.LinkName() != "" && p.LinkName() != l.Name {
		return false
	}
	burnt := cmp.Or(l.Burnt, l.Hardware)
	var mac string
	var denied []string
	switch {
	case c.Type == profile.TypeEthernet && p.Ethernet != nil:
		mac, denied = string(p.Ethernet.MAC), p.Ethernet.MACDenied
	case c.Type == profile.TypeWiFi && p.WiFi != nil:
		mac, denied = string(p.WiFi.MAC), p.WiFi.MACDenied
	}
	if mac != "" && !strings.EqualFold(mac, burnt) {
		return false
	}
	if slices.ContainsFunc(denied, func(d string) bool { return strings.EqualFold(d, burnt) }) {
		return false
	}
	m := p.Match
	return m == nil || matches(m.InterfaceNames, []string{l.Name}) && matches(m.Drivers, []string{l.Driver}) &&
		matches(m.Paths, []string{l.Path}) && matches(m.CommandLine, commandLine)
}

// fitsKind reports whether a profile of its type can be for a link of its kind. A profile for ethernet is for a virtual
// link only if it names it: most of those belong to containers. A profile of a type that netd creates is only for a
// link that netd has created.
func fitsKind(p profile.Profile, l link.Link) bool {
	c := p.Connection
	port := c.PortType != ""
	switch c.Type {
	case profile.TypeEthernet:
		named := c.InterfaceName != ""
		return l.Kind == link.Wired || l.Kind == link.Virtual && named && !created(l.Type) ||
			l.Kind == link.Member && (port || named)
	case profile.TypeWiFi:
		return l.Kind == link.Wifi
	case profile.TypeGSM:
		return l.Kind == link.Modem
	case profile.TypeVPN:
		return false
	}
	return c.Type == l.Type && l.Own && (l.Kind == link.Virtual || l.Kind == link.Member && port) &&
		p.LinkName() == l.Name
}

// Creates reports whether netd creates the link of a profile.
func Creates(p profile.Profile) bool { return created(p.Connection.Type) }

// created reports whether links of a type have profiles of their own type.
func created(t string) bool {
	return slices.Contains([]string{"bridge", "bond", "vlan", "wireguard", "dummy"}, t)
}

// matches judges patterns as NetworkManager does: "!" excludes, "&" must match; of the others one must. A value may be
// one of several, such as the words of the command line, which are compared as a whole or up to "=".
func matches(patterns, values []string) bool {
	optional, hit := false, false
	for _, p := range patterns {
		rest, must := strings.CutPrefix(p, "&")
		if !must {
			rest = strings.TrimPrefix(p, "|")
		}
		rest, not := strings.CutPrefix(rest, "!")
		rest = strings.TrimPrefix(rest, `\`)
		got := slices.ContainsFunc(values, func(v string) bool {
			whole, _ := path.Match(rest, v)
			name, _, _ := strings.Cut(v, "=")
			return whole || name == rest
		})
		switch {
		case not && got, must && !got && !not:
			return false
		case !not && !must:
			optional = true
			hit = hit || got
		}
	}
	return !optional || hit
}
