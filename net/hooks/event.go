// Package hooks owns the scripts of /etc/NetworkManager/dispatcher.d: which of them run when a link changes, with the
// arguments and the environment that NetworkManager's dispatcher gives them.
//
// Events and Environment are pure. netd, which may start no program, only finds out what has happened (Notifier); the
// process netrun runs the scripts (Runner). Read first: Events, then Runner.
package hooks

import (
	"reflect"

	"resinos/net/netstate"
)

// Dir is the directory of the scripts. Those of the actions pre-up and pre-down are in pre-up.d and pre-down.d below.
const Dir = "/etc/NetworkManager/dispatcher.d"

// Action is what has happened, in NetworkManager's words.
type Action string

// The actions.
const (
	PreUp      Action = "pre-up"
	Up         Action = "up"
	PreDown    Action = "pre-down"
	Down       Action = "down"
	DHCP4      Action = "dhcp4-change"
	DHCP6      Action = "dhcp6-change"
	Reach      Action = "connectivity-change"
	HostRename Action = "hostname"
)

// Event is one thing that scripts are told.
type Event struct {
	Action Action        `json:"action"`
	Link   netstate.Link `json:"link"` // of the actions on links: as it is now, or was before it went down
	Reach  string        `json:"reach,omitempty"`
}

// Events returns what happened between two states, in the order in which scripts are told.
func Events(before, now netstate.State) []Event {
	var out []Event
	add := func(l netstate.Link, actions ...Action) {
		for _, a := range actions {
			out = append(out, Event{Action: a, Link: l})
		}
	}
	for _, was := range before.Links {
		l, there := find(now, was.Index)
		if was.Up() && (!there || !l.Up() || other(was, l)) {
			add(was, PreDown, Down)
		}
	}
	for _, l := range now.Links {
		was, there := find(before, l.Index)
		switch {
		case !l.Up():
		case !there || !was.Up() || other(was, l):
			add(l, PreUp, Up)
		default:
			if l.Lease != nil && !reflect.DeepEqual(was.Lease, l.Lease) {
				add(l, DHCP4)
			}
			if l.Lease6 != nil && !reflect.DeepEqual(was.Lease6, l.Lease6) {
				add(l, DHCP6)
			}
		}
	}
	if before.Hostname != now.Hostname && before.Hostname != "" {
		out = append(out, Event{Action: HostRename})
	}
	if before.Reach != now.Reach && now.Reach != "" {
		out = append(out, Event{Action: Reach, Reach: now.Reach})
	}
	return out
}

func find(s netstate.State, index int) (netstate.Link, bool) {
	for _, l := range s.Links {
		if l.Index == index {
			return l, true
		}
	}
	return netstate.Link{}, false
}

// other reports whether a link is not the one that it was, although its number is: to scripts it goes down and comes
// up again.
func other(a, b netstate.Link) bool {
	return a.Name != b.Name || a.File != b.File || a.UUID != b.UUID || a.Written != b.Written
}
