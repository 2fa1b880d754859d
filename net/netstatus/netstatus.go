// Package netstatus describes the state of the kernel to osctl: a link with its addresses, its routes and its peers,
// and the owner's rules of the packet filter. What netd wants of a link, and why, is netd's part. Read Link first.
package netstatus

import (
	"fmt"

	"resinos/net/link"
	"resinos/net/ndwatch"
	"resinos/net/netcontrol"
	"resinos/net/ownrules"
	"resinos/net/profile"
	"resinos/net/wireguard"
)

// Link describes a link as it was observed. What cannot be read meanwhile is left out.
func Link(a link.Actual) netcontrol.Link {
	l := netcontrol.Link{
		Name: a.Link.Name, Kind: string(a.Link.Kind), Up: a.Link.Up, Carrier: a.Link.Carrier, Hardware: a.Link.Hardware,
		MTU: a.Link.MTU, Addresses: []string{}, Routes: []string{},
	}
	for _, one := range a.Addresses {
		l.Addresses = append(l.Addresses, one.Prefix.String())
	}
	for _, r := range a.Routes {
		l.Routes = append(l.Routes, r.String())
	}
	if a.Link.Type == profile.TypeWireGuard {
		l.Peers = peers(a.Link.Name)
	}
	return l
}

// Routers returns the default routes that routers have announced on a link that netd configures.
func Routers(a link.Actual) (routes []string) {
	routers, _ := ndwatch.Gateways(a.Link.Index) // what could be read is shown
	for _, r := range routers {
		routes = append(routes, fmt.Sprintf("default via %s metric %s, from a router", r, a.IPv6[ndwatch.RouterMetric]))
	}
	return routes
}

// peers returns the peers of a wireguard link; none if it cannot be read.
func peers(name string) (out []netcontrol.Peer) {
	state, _ := wireguard.Observe(name) // without an answer, the link has no peers to show
	for _, p := range state.Peers {
		one := netcontrol.Peer{Key: p.Public.String(), Received: p.Received, Sent: p.Sent, Handshake: p.Handshake}
		if p.Endpoint.IsValid() {
			one.Endpoint = p.Endpoint.String()
		}
		out = append(out, one)
	}
	return out
}

// Rules describes the owner's files of rules by the state that their loader has written; none without a state.
func Rules(state string) (out []netcontrol.Rules) {
	if state == "" {
		return nil
	}
	files, _ := ownrules.Read(state) // a damaged state shows none
	for _, f := range files {
		out = append(out, netcontrol.Rules{File: f.Name, Tables: f.Tables, Error: f.Error})
	}
	return out
}
