// Package reach finds out how far connections through each uplink get: whether the internet answers, a captive portal
// instead, only the gateway, or nobody. The answers decide which uplinks lose their priority.
//
// Machine and Penalised decide and are pure; Probe asks; Set holds the machine of every uplink for netd. The package
// changes no route and no address (netd does), and asks nobody while there is nothing to decide: the first question of
// a single uplink comes half a minute after its address, the next one after the owner's interval.
//
// Read first: Machine, then Set.
package reach

import (
	"net/netip"
	"slices"
)

// State is how far a link gets.
type State uint8

// The states. The zero value is unknown.
const (
	Unknown State = iota // not asked yet
	None                 // the gateway does not answer
	Limited              // the gateway answers, the owner's URL does not
	Portal               // something else answers for the owner's URL: most often a captive portal
	Gateway              // the gateway answers, and there is no URL to ask
	Full                 // the owner's URL gives the expected answer
)

var stateNames = [...]string{Unknown: "-", None: "none", Limited: "limited", Portal: "portal", Gateway: "gateway",
	Full: "full"}

// String returns the state in one word, as osctl net shows it.
func (s State) String() string { return stateNames[s] }

// good reports whether a link in this state is one to use.
func (s State) good() bool { return s == Full || s == Gateway }

// Uplink is a link with a carrier and a default route, as the kernel has them.
type Uplink struct {
	Index    int
	Name     string
	Hardware string       // six bytes in hexadecimal, as in 52:54:00:12:34:56; others: its gateway cannot be asked
	Metric   int          // of its default route while it has its priority
	Gateways []netip.Addr // of its default routes; none: the route needs no gateway
	Servers  []netip.Addr // its own name servers
	Four     bool         // it has a default route of IPv4
	Six      bool         // it has a default route of IPv6
}

// same reports whether u is on the network that v was on, as far as a probe can tell.
func (u Uplink) same(v Uplink) bool {
	return u.Index == v.Index && u.Name == v.Name && u.Hardware == v.Hardware && u.Four == v.Four && u.Six == v.Six &&
		slices.Equal(u.Gateways, v.Gateways) && slices.Equal(u.Servers, v.Servers)
}

// Finding is what one probe found.
type Finding struct {
	State  State
	Reason string // why it is not full; it may contain what a stranger sent
}
