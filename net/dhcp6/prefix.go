package dhcp6

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Prefix is one delegated prefix: networks that the device may give to others, which the server's side routes to it.
type Prefix struct {
	Prefix    netip.Prefix  // masked
	Preferred time.Duration // until when it may be used for something new, counted from Bound of the lease
	Valid     time.Duration // until when it may be used, counted from Bound of the lease
}

// The limits on prefixes that a server delegates.
const (
	maxPrefixes = 4
	maxBits     = 64 // of which guests can make addresses
	minBits     = 16 // nobody gives a device more: it is a mistake
)

// prefixes reads what a server delegates.
func (l *Lease) prefixes(ia *dhcpv6.OptIAPD) error {
	if s := ia.Options.Status(); s != nil && s.StatusCode != 0 {
		return fmt.Errorf("%w: no prefix, status %d", errRefused, s.StatusCode)
	}
	least := time.Duration(-1)
	for _, o := range ia.Options.Prefixes() {
		if s := o.Options.Status(); s != nil && s.StatusCode != 0 {
			continue
		}
		p, ok := prefixOf(o.Prefix)
		if !ok || o.ValidLifetime == 0 || o.PreferredLifetime > o.ValidLifetime || l.overlaps(p) ||
			len(l.Prefixes) == maxPrefixes {
			continue
		}
		one := Prefix{Prefix: p, Valid: max(o.ValidLifetime, minValid)}
		if o.PreferredLifetime > 0 { // 0 is meant so: the network is about to go
			one.Preferred = max(o.PreferredLifetime, minValid)
		}
		l.Prefixes = append(l.Prefixes, one)
		if t := max(one.Preferred, minValid); least < 0 || t < least {
			least = t
		}
	}
	if len(l.Prefixes) == 0 {
		return fmt.Errorf("%w: no usable prefix", errRefused)
	}
	l.times(ia.T1, ia.T2, least)
	return nil
}

// prefixOf reads a prefix that networks of 64 bits can be taken from.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	p := netip.PrefixFrom(a, bits).Masked()
	ok := size == 128 && bits >= minBits && bits <= maxBits && usable(a) && usable(p.Addr()) && !a.IsLinkLocalUnicast()
	return p, ok
}

// Delegable reports whether a server could have delegated these prefixes in one lease.
func Delegable(list []netip.Prefix) bool {
	var l Lease
	for _, p := range list {
		if !p.IsValid() || !p.Addr().Is6() {
			return false
		}
		n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)}
		if got, ok := prefixOf(n); !ok || got != p || l.overlaps(p) {
			return false
		}
		l.Prefixes = append(l.Prefixes, Prefix{Prefix: p})
	}
	return len(l.Prefixes) <= maxPrefixes
}

func (l *Lease) overlaps(p netip.Prefix) bool {
	for _, o := range l.Prefixes {
		if o.Prefix.Overlaps(p) {
			return true
		}
	}
	return false
}

// delegation adds the prefixes of a lease to a message, or else the one that is wished.
func (m *Machine) delegation(out *dhcpv6.Message, l Lease) {
	ia := &dhcpv6.OptIAPD{IaId: m.cfg.IAID}
	add := func(p netip.Prefix) {
		ia.Options.Add(&dhcpv6.OptIAPrefix{
			Prefix: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)}})
	}
	for _, p := range l.Prefixes {
		add(p.Prefix)
	}
	if len(l.Prefixes) == 0 && m.wish.IsValid() {
		add(m.wish)
	}
	out.AddOption(ia)
}

// Wish sets the prefix that a server is asked for while it has delegated none; with the address :: only its length
// counts, and the zero value is no wish.
func (m *Machine) Wish(p netip.Prefix) { m.wish = p }

// patience returns how long a server wants to be left alone between two questions for what it does not have
// (SOL_MAX_RT, RFC 8415, 21.24).
func patience(r *dhcpv6.Message) (time.Duration, bool) {
	o := r.GetOneOption(dhcpv6.OptionSolMaxRT)
	if o == nil || len(o.ToBytes()) != 4 {
		return 0, false
	}
	n := binary.BigEndian.Uint32(o.ToBytes())
	return time.Duration(n) * time.Second, n >= 60 && n <= 86400
}
