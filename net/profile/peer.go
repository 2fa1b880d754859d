package profile

import (
	"reflect"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
)

// NewSection returns a section with its defaults.
func NewSection[T any]() *T {
	s := new(T)
	fill(reflect.ValueOf(s).Elem())
	return s
}

// peer reads one section of a peer. The networks that it may send from are read one by one: a wrong one costs only
// itself.
func (r *reader) peer(g keyfile.Group, peer *Peer) {
	k, there := g.Key("allowed-ips")
	plain := struct {
		Preshared keyvalue.Secret `nm:"preshared-key" by:"wireguardKey"`
		PSKFlags  int64           `nm:"preshared-key-flags" range:"0..7" default:"4"`
		Keepalive int64           `nm:"persistent-keepalive" range:"uint32"`
		Endpoint  string          `nm:"endpoint" by:"endpoint"`
		Allowed   []string        `nm:"allowed-ips"`
	}{}
	fill(reflect.ValueOf(&plain).Elem())
	r.section(g, reflect.ValueOf(&plain).Elem())
	peer.Preshared, peer.PSKFlags = plain.Preshared, plain.PSKFlags
	peer.Keepalive, peer.Endpoint = plain.Keepalive, plain.Endpoint
	if !there {
		return
	}
	for _, text := range plain.Allowed {
		network, ok := keyvalue.Network(text)
		if !ok {
			r.warn(g.Name, k, "one of the networks is ignored: not ADDRESS/BITS")
			continue
		}
		peer.AllowedIPs = append(peer.AllowedIPs, network)
	}
}
