// Package wireguard owns the settings of the kernel's wireguard links: the private key, the port, and the peers with
// their keys, networks and endpoints. Plan compares what profiles ask for with what the kernel has; a Keeper carries
// that out, and keeps looking up the peers that are given by name.
//
// It creates no link (ownlink does) and sets no route. No step and no log line of it holds a secret.
//
// Read first: Config, then Plan.
package wireguard

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"resinos/net/keyvalue"
)

// Key is a public key of 32 bytes.
type Key [32]byte

// String returns the key in base64, as wg prints it.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// Short returns the first letters of the key, which are enough to tell peers apart.
func (k Key) Short() string { return k.String()[:8] + "…" }

// Config is what a link should have. Secrets are in base64.
type Config struct {
	Link    string
	Private keyvalue.Secret
	Port    uint16 // 0: the kernel's choice
	Mark    uint32
	Peers   []Peer
}

// Peer is a peer that a link should have.
type Peer struct {
	Public    Key
	Preshared keyvalue.Secret // empty: none
	Endpoint  string          // HOST:PORT; empty: the peer comes to us
	Keepalive uint16          // seconds; 0: off
	Allowed   []netip.Prefix  // masked
}

// State is what the kernel has.
type State struct {
	Public Key // zero: there is no private key
	Port   uint16
	Mark   uint32
	Peers  []PeerState

	private [32]byte
}

// PeerState is one peer of the kernel.
type PeerState struct {
	Public         Key
	Endpoint       netip.AddrPort // not valid: not known
	Handshake      time.Time      // zero: none so far
	Received, Sent uint64         // bytes
	Keepalive      uint16
	Allowed        []netip.Prefix
	preshared      [32]byte
}

// Step is one change of a link; Peer is the zero Key if it is about the link itself.
type Step struct {
	Link string
	Peer Key

	text    string
	private *[32]byte
	port    *uint16
	mark    *uint32
	remove  bool
	replace bool // the networks
	wanted  Peer
	to      netip.AddrPort // not valid: the endpoint stays
}

// String returns the step as one line, without any secret.
func (s Step) String() string {
	if s.Peer != (Key{}) {
		return fmt.Sprintf("%s: peer %s: %s", s.Link, s.Peer.Short(), s.text)
	}
	return s.Link + ": " + s.text
}

// Plan returns the steps from the actual state to the wanted one. endpoints holds, by peer, where a peer should be
// reached from now on; a peer that is missing there keeps the endpoint that the kernel has, because a peer may have
// moved since.
func Plan(c Config, now State, endpoints map[Key]netip.AddrPort) []Step {
	var steps []Step
	add := func(s Step) { s.Link = c.Link; steps = append(steps, s) }
	if private := clamped(c.Private); private != now.private {
		add(Step{text: "set private key", private: &private})
	}
	if c.Port != 0 && c.Port != now.Port {
		add(Step{text: fmt.Sprintf("set listen-port %d", c.Port), port: &c.Port})
	}
	if c.Mark != now.Mark {
		add(Step{text: fmt.Sprintf("set fwmark 0x%x", c.Mark), mark: &c.Mark})
	}
	for _, have := range now.Peers {
		if !slices.ContainsFunc(c.Peers, func(p Peer) bool { return p.Public == have.Public }) {
			add(Step{Peer: have.Public, text: "remove", remove: true})
		}
	}
	for _, p := range c.Peers {
		to := endpoints[p.Public]
		i := slices.IndexFunc(now.Peers, func(have PeerState) bool { return have.Public == p.Public })
		var have PeerState
		if i >= 0 {
			have = now.Peers[i]
		}
		if to == have.Endpoint {
			to = netip.AddrPort{}
		}
		networks := !same(p.Allowed, have.Allowed)
		rest := p.Keepalive != have.Keepalive || preshared(p.Preshared) != have.preshared
		if i < 0 || networks || rest || to.IsValid() {
			add(Step{Peer: p.Public, text: describe(p, to), wanted: p, to: to, replace: networks || i < 0})
		}
	}
	return steps
}

func describe(p Peer, to netip.AddrPort) string {
	words := []string{"put"}
	if len(p.Allowed) > 0 {
		words = append(words, "networks "+strings.Trim(fmt.Sprint(p.Allowed), "[]"))
	}
	if to.IsValid() {
		words = append(words, "endpoint "+to.String())
	}
	if p.Keepalive != 0 {
		words = append(words, fmt.Sprintf("keepalive %d s", p.Keepalive))
	}
	if p.Preshared.Reveal() != "" {
		words = append(words, "preshared key")
	}
	return strings.Join(words, ", ")
}

// same reports whether two lists hold the same networks. A peer further down in the kernel's list may own one that is
// given twice, which then differs for ever: the reader of profiles does not allow that.
func same(a, b []netip.Prefix) bool {
	sorted := func(list []netip.Prefix) []netip.Prefix {
		list = slices.Clone(list)
		slices.SortStableFunc(list, netip.Prefix.Compare)
		return slices.Compact(list)
	}
	return slices.Equal(sorted(a), sorted(b))
}

// clamped returns a private key as the kernel keeps it (RFC 7748, section 5).
func clamped(s keyvalue.Secret) (out [32]byte) {
	b, ok := keyvalue.Key32(s.Reveal())
	if !ok {
		return out
	}
	copy(out[:], b)
	out[0] &= 248
	out[31] = out[31]&127 | 64
	return out
}

func preshared(s keyvalue.Secret) (out [32]byte) {
	if b, ok := keyvalue.Key32(s.Reveal()); ok {
		copy(out[:], b)
	}
	return out
}

// PublicKey reads a public key in base64.
func PublicKey(text string) (k Key, ok bool) {
	b, ok := keyvalue.Key32(text)
	if ok {
		copy(k[:], b)
	}
	return k, ok
}
