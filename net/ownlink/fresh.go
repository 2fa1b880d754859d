package ownlink

import (
	"slices"

	"resinos/net/assignment"
	"resinos/net/profile"
)

// Fresh returns the steps for the link of one profile where there is none yet, for people who ask for a plan: of the
// options, those that are not the usual ones. Other profiles have none.
func Fresh(e assignment.Entry) (steps []string) {
	usual := e
	usual.Profile.Bridge, usual.Profile.Bond = profile.NewSection[profile.Bridge](), &profile.Bond{}
	if e.Profile.VLAN != nil {
		v := *e.Profile.VLAN
		v.Flags = profile.NewSection[profile.VLAN]().Flags
		usual.Profile.VLAN = &v
	}
	common := fresh(usual)
	for _, s := range fresh(e) {
		if s.Verb == Create || !slices.ContainsFunc(common, func(u Step) bool { return u.String() == s.String() }) {
			steps = append(steps, s.String())
		}
	}
	return steps
}

// fresh plans a link that is not there, then its options. The parent of a vlan is taken to be there.
func fresh(e assignment.Entry) []Step {
	e.Profile.Connection.UUID = "" // no link is named by it here
	actual := []Actual{{Index: 1, Name: "parent"}}
	if v := e.Profile.VLAN; v != nil {
		actual[0].Name = v.Parent
		if m := e.Profile.Ethernet; m != nil && v.Parent == "" {
			actual[0].Hardware = string(m.MAC)
		}
	}
	entries := []assignment.Entry{e}
	steps := Plan(entries, nil, actual).Steps
	there := Actual{Index: 2, Name: e.Profile.LinkName(), Kind: e.Profile.Connection.Type, Ours: true, Parent: 1}
	if len(steps) == 0 {
		return nil
	}
	return append(steps, Plan(entries, nil, append(actual, there)).Steps...)
}
