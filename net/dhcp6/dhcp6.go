// Package dhcp6 owns DHCPv6 (RFC 8415): what a server granted (Lease), what to send when (Machine, a pure step
// function), and the socket for it.
//
// It never sets an address (netd does), and never reads a clock: the caller passes in each instant as the time since
// kernel start. Grant limits everything that a server sends before anybody else sees it.
//
// Read first: Machine.
package dhcp6

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"resinos/services/hostname"
)

// Lease is what a server granted; every value in it has passed the limits.
type Lease struct {
	Addresses []Address
	Prefixes  []Prefix
	Server    []byte // its identifier (DUID)
	DNS       []netip.Addr
	Search    []string
	Bound     time.Duration // when the grant began: time since kernel start
	Renew     time.Duration // T1, counted from Bound
	Rebind    time.Duration // T2, counted from Bound
	Refresh   time.Duration // when settings without addresses are asked for again, counted from Bound
}

// Address is one granted address.
type Address struct {
	Addr  netip.Addr
	Valid time.Duration // counted from Bound of the lease
}

// Ends returns the instant after which no address and no prefix of the lease may be used; 0: it has none.
func (l Lease) Ends() time.Duration {
	var last time.Duration
	for _, a := range l.Addresses {
		last = max(last, l.Bound+a.Valid)
	}
	for _, p := range l.Prefixes {
		last = max(last, l.Bound+p.Valid)
	}
	return last
}

// first returns the instant at which the first of them ends; 0: there is none.
func (l Lease) first() time.Duration {
	first := l.Ends()
	for _, a := range l.Addresses {
		first = min(first, l.Bound+a.Valid)
	}
	for _, p := range l.Prefixes {
		first = min(first, l.Bound+p.Valid)
	}
	return first
}

// without returns the lease without what has ended. Others may hold the lists of l, which stay as they are.
func (l Lease) without(now time.Duration) Lease {
	addresses, prefixes := l.Addresses, l.Prefixes
	l.Addresses, l.Prefixes = nil, nil
	for _, a := range addresses {
		if now < l.Bound+a.Valid {
			l.Addresses = append(l.Addresses, a)
		}
	}
	for _, p := range prefixes {
		if now < l.Bound+p.Valid {
			l.Prefixes = append(l.Prefixes, p)
		}
	}
	return l
}

// The limits on what a server sends.
const (
	maxAddresses = 4
	maxServers   = 8
	maxDomains   = 8
	minValid     = time.Minute
	minRenew     = 30 * time.Second
	minRefresh   = 10 * time.Minute // IRT_MINIMUM of RFC 8415
	refresh      = 24 * time.Hour   // IRT_DEFAULT
	maxRefresh   = 7 * 24 * time.Hour
)

// errRefused means that the server does not know or does not want to give what it was asked for.
var errRefused = errors.New("refused by the server")

// Grant reads a reply for the identity associations with the number iaid. Without any, as in an answer to an
// information request, the lease has settings only. The error wraps errRefused if the server refuses all that it was
// asked for.
func Grant(m *dhcpv6.Message, iaid [4]byte) (Lease, error) {
	server := m.Options.ServerID()
	if server == nil {
		return Lease{}, errors.New("no server identifier")
	}
	l := Lease{Server: server.ToBytes(), Refresh: m.Options.InformationRefreshTime(refresh)}
	l.Refresh = min(max(l.Refresh, minRefresh), maxRefresh)
	if s := m.Options.Status(); s != nil && s.StatusCode != 0 {
		return l, fmt.Errorf("%w: status %d", errRefused, s.StatusCode)
	}
	for _, ip := range m.Options.DNS() {
		a, _ := netip.AddrFromSlice(ip)
		if usable(a) && len(l.DNS) < maxServers {
			l.DNS = append(l.DNS, a)
		}
	}
	if list := m.Options.DomainSearchList(); list != nil {
		for _, d := range list.Labels {
			if hostname.Valid(d) && len(l.Search) < maxDomains {
				l.Search = append(l.Search, d)
			}
		}
	}
	var refused error
	for _, ia := range m.Options.IANA() {
		if ia.IaId == iaid {
			refused = l.addresses(ia)
			break
		}
	}
	for _, ia := range m.Options.IAPD() {
		if ia.IaId == iaid {
			refused = cmp.Or(refused, l.prefixes(ia))
			break
		}
	}
	if len(l.Addresses)+len(l.Prefixes) > 0 {
		return l, nil
	}
	return l, refused
}

func (l *Lease) addresses(ia *dhcpv6.OptIANA) error {
	if s := ia.Options.Status(); s != nil && s.StatusCode != 0 {
		return fmt.Errorf("%w: status %d", errRefused, s.StatusCode)
	}
	least := time.Duration(-1)
	for _, o := range ia.Options.Addresses() {
		a, _ := netip.AddrFromSlice(o.IPv6Addr)
		if s := o.Options.Status(); s != nil && s.StatusCode != 0 {
			continue
		}
		if o.ValidLifetime == 0 || o.PreferredLifetime > o.ValidLifetime {
			continue
		}
		if !usable(a) || a.IsLinkLocalUnicast() || len(l.Addresses) == maxAddresses {
			continue
		}
		l.Addresses = append(l.Addresses, Address{a, max(o.ValidLifetime, minValid)})
		if p := max(o.PreferredLifetime, minValid); least < 0 || p < least {
			least = p
		}
	}
	if len(l.Addresses) == 0 {
		return fmt.Errorf("%w: no usable address", errRefused)
	}
	l.times(ia.T1, ia.T2, least)
	return nil
}

// times sets when the lease is asked for again, of which the earliest counts: least is the shortest time that something
// of it may be used for.
func (l *Lease) times(renew, rebind, least time.Duration) {
	if renew <= 0 || renew > least {
		renew = least / 2
	}
	renew = max(renew, minRenew)
	if rebind <= renew || rebind > least {
		rebind = max(least*4/5, renew)
	}
	if l.Renew != 0 {
		renew, rebind = min(renew, l.Renew), min(rebind, l.Rebind)
	}
	l.Renew, l.Rebind = renew, max(rebind, renew)
}

func usable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast()
}

// Config is what a Machine needs at its start.
type Config struct {
	DUID     []byte // of the device: two bytes of type, then what the type says; 4 to 130 bytes
	IAID     [4]byte
	Hostname func() string // sent if it is a valid host name
	Random   func() uint32 // for transaction ids and jitter
}

// Parse reads a message for a client with that DUID.
func Parse(p []byte, duid []byte) (*dhcpv6.Message, error) {
	m, err := dhcpv6.MessageFromBytes(p)
	if err != nil {
		return nil, fmt.Errorf("read DHCPv6 message: %w", err)
	}
	if id := m.Options.ClientID(); id == nil || !bytes.Equal(id.ToBytes(), duid) {
		return nil, errors.New("read DHCPv6 message: it is for another client")
	}
	return m, nil
}

// message builds a message of a kind.
func (m *Machine) message(now time.Duration, kind dhcpv6.MessageType) *dhcpv6.Message {
	out := &dhcpv6.Message{MessageType: kind, TransactionID: m.xid}
	if id, err := dhcpv6.DUIDFromBytes(m.cfg.DUID); err == nil {
		out.AddOption(dhcpv6.OptClientID(id))
	}
	out.AddOption(dhcpv6.OptElapsedTime(min(now-m.began, 0xffff*10*time.Millisecond)))
	out.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList,
		dhcpv6.OptionInformationRefreshTime, dhcpv6.OptionSolMaxRT))
	if name := m.cfg.Hostname(); hostname.Valid(name) && m.mode == Addresses {
		dhcpv6.WithFQDN(1, name)(out) // the server may put the name into DNS
	}
	return out
}

// identity adds what the message is about: addresses, prefixes, or both.
func (m *Machine) identity(out *dhcpv6.Message, l Lease) {
	if m.mode == Addresses {
		ia := &dhcpv6.OptIANA{IaId: m.cfg.IAID}
		for _, a := range l.Addresses {
			ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.IP(a.Addr.AsSlice())})
		}
		out.AddOption(ia)
	}
	if m.prefix {
		m.delegation(out, l)
	}
}

func (m *Machine) server(out *dhcpv6.Message, l Lease) {
	if id, err := dhcpv6.DUIDFromBytes(l.Server); err == nil {
		out.AddOption(dhcpv6.OptServerID(id))
	}
}
