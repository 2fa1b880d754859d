package assignment

import (
	"cmp"
	"slices"

	"resinos/net/link"
	"resinos/net/profile"
)

// Radios returns the profiles that each radio may join, by index of the link, the best one first. A radio that is an
// access point, or part of a network without one, does nothing else. A profile is for one radio, unless its
// multi-connect says otherwise.
func Radios(entries []Entry, s State) map[int][]Entry {
	links := slices.DeleteFunc(slices.Clone(s.Links), func(l link.Link) bool { return l.Kind != link.Wifi })
	slices.SortStableFunc(links, func(a, b link.Link) int { return cmp.Compare(a.Index, b.Index) })
	out, used := map[int][]Entry{}, map[string]bool{}
	for _, l := range links {
		var fit []Entry
		for _, e := range entries {
			if s.wanted(e) && !used[e.File] && Fits(e.Profile, l, s.CommandLine) {
				fit = append(fit, e)
			}
		}
		slices.SortStableFunc(fit, func(a, b Entry) int {
			if better(a, b, "") {
				return -1
			}
			return 1
		})
		if len(fit) == 0 {
			continue
		}
		if alone(fit[0].Profile) {
			fit = fit[:1]
		} else {
			fit = slices.DeleteFunc(fit, func(e Entry) bool { return alone(e.Profile) })
		}
		for _, e := range fit {
			used[e.File] = e.Profile.Connection.MultiConnect != multiple
		}
		out[l.Index] = fit
	}
	return out
}

// alone reports whether a radio with the profile can do nothing else.
func alone(p profile.Profile) bool {
	return p.WiFi != nil && p.WiFi.Mode != "" && p.WiFi.Mode != "infrastructure"
}

// inRadio returns which of the profiles of a radio is in force: the one whose network it has joined, else the best.
func (s State) inRadio(l link.Link, fit []Entry) Entry {
	for _, e := range fit {
		if e.File == s.Joined[l.Name] {
			return e
		}
	}
	return fit[0]
}
