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

// Ends returns the instant after which no address of the lease may be used; 0: it has none.
func (l Lease) Ends() time.Duration {
	var last time.Duration
	for _, a := range l.Addresses {
		last = max(last, l.Bound+a.Valid)
	}
	return last
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

// errRefused means that the server does not know or does not want to give the addresses.
var errRefused = errors.New("refused by the server")

// Grant reads a reply for the identity association iaid. Without addresses, as in an answer to an information request,
// the lease has settings only. The error wraps errRefused if the server refuses.
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
	for _, ia := range m.Options.IANA() {
		if ia.IaId == iaid {
			return l, l.addresses(ia)
		}
	}
	return l, nil
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
	l.Renew, l.Rebind = ia.T1, ia.T2
	if l.Renew <= 0 || l.Renew > least {
		l.Renew = least / 2
	}
	l.Renew = max(l.Renew, minRenew)
	if l.Rebind <= l.Renew || l.Rebind > least {
		l.Rebind = max(least*4/5, l.Renew)
	}
	return nil
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
		dhcpv6.OptionInformationRefreshTime))
	if name := m.cfg.Hostname(); hostname.Valid(name) && kind != dhcpv6.MessageTypeInformationRequest {
		dhcpv6.WithFQDN(1, name)(out) // the server may put the name into DNS
	}
	return out
}

// identity adds the addresses that the message is about.
func (m *Machine) identity(out *dhcpv6.Message, l Lease) {
	ia := &dhcpv6.OptIANA{IaId: m.cfg.IAID}
	for _, a := range l.Addresses {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.IP(a.Addr.AsSlice())})
	}
	out.AddOption(ia)
}

func (m *Machine) server(out *dhcpv6.Message, l Lease) {
	if id, err := dhcpv6.DUIDFromBytes(l.Server); err == nil {
		out.AddOption(dhcpv6.OptServerID(id))
	}
}
