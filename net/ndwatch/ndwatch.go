// Package ndwatch receives the kernel's messages about the advertisements of IPv6 routers on a link: name servers and
// search domains (RFC 8106), and whether there is a DHCPv6 server. The kernel reads the router advertisements itself
// and passes on what it does not use.
//
// The advertisements may be hostile: the package reads a bounded part of each message. Read first: Event.
package ndwatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"resinos/services/hostname"
)

// Event is one message about one link.
type Event struct {
	Index   int
	Servers []Server
	Domains []Domain
	Flags   Flags
	Flagged bool // Flags are set
}

// Server is a name server that a router has named.
type Server struct {
	Addr     netip.Addr
	Lifetime time.Duration // from now on; 0: it must not be used any more
}

// Domain is a search domain that a router has named.
type Domain struct {
	Name     string
	Lifetime time.Duration
}

// Flags are those of the last router advertisement.
type Flags struct {
	Managed bool // M: addresses come from a DHCPv6 server
	Other   bool // O: other settings do
}

// The limits on one message.
const (
	maxServers = 8
	maxDomains = 8
)

// Watch has tell called with each event, one at a time, until Close. tell returns false when nobody listens any more.
func Watch(tell func(Event) bool) (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	groups := uint32(1<<(unix.RTNLGRP_ND_USEROPT-1) | 1<<(unix.RTNLGRP_IPV6_IFINFO-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to routers: %w", err), unix.Close(fd))
	}
	w := &Watcher{file: os.NewFile(uintptr(fd), "netlink"), done: make(chan struct{})}
	go w.read(tell)
	return w, nil
}

// Watcher reads the messages.
type Watcher struct {
	file *os.File
	done chan struct{} // closed by read
}

// Close ends the reader and waits for it.
func (w *Watcher) Close() {
	w.file.Close() // only the reader could notice, and it ends
	<-w.done
}

func (w *Watcher) read(tell func(Event) bool) {
	defer close(w.done)
	buf := make([]byte, 32<<10) // the kernel's own size for a message
	for {
		n, err := w.file.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			continue // a flood; routers repeat themselves
		}
		if err != nil {
			return
		}
		for _, e := range Parse(buf[:n]) {
			if !tell(e) {
				return
			}
		}
	}
}

// FlagsOf asks the kernel for the flags of a link.
func FlagsOf(index int) (Flags, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_INET6))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return Flags{}, fmt.Errorf("ask for the router flags of link %d: %w", index, err)
	}
	for _, m := range messages {
		if e, ok := linkFlags(m); ok && e.Index == index {
			return e.Flags, nil
		}
	}
	return Flags{}, nil
}

// RouterMetric is the kernel's setting of a link for the metric of the default routes from its routers. It counts from
// their next advertisement on.
const RouterMetric = "ra_defrtr_metric"

// Gateways returns the gateways of the default routes that the kernel has taken from the routers of a link.
func Gateways(index int) ([]netip.Addr, error) {
	filter := &netlink.Route{LinkIndex: index, Protocol: unix.RTPROT_RA}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V6, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes of link %d: %w", index, err)
	}
	var out []netip.Addr
	for _, r := range list {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{Gw: r.Gw}) {
			if a, ok := netip.AddrFromSlice(hop.Gw); ok {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// Solicit has the routers on a link say what they have to say again, by a router solicitation (RFC 4861, 4.1).
func Solicit(index int) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	defer unix.Close(fd) // nothing is left to be sent
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)
	}
	if err == nil {
		to := &unix.SockaddrInet6{Addr: allRouters.As16(), ZoneId: uint32(index)}
		err = unix.Sendto(fd, []byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, 0, to) // the kernel fills in the checksum
	}
	if err != nil {
		return fmt.Errorf("ask the routers of link %d: %w", index, err)
	}
	return nil
}

var allRouters = netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 2})

const solicitation = 133

// Parse reads a datagram of messages.
func Parse(p []byte) (events []Event) {
	for len(p) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(p))
		if length < unix.SizeofNlMsghdr || length > len(p) {
			return events
		}
		body := p[unix.SizeofNlMsghdr:length]
		switch binary.NativeEndian.Uint16(p[4:]) {
		case unix.RTM_NEWNDUSEROPT:
			if e, ok := userOption(body); ok {
				events = append(events, e)
			}
		case unix.RTM_NEWLINK:
			if e, ok := linkFlags(body); ok {
				events = append(events, e)
			}
		}
		p = p[min((length+3)&^3, len(p)):]
	}
	return events
}

// The layout of struct nduseroptmsg (linux/rtnetlink.h): family, padding, length of the options, index, ICMP type and
// code, padding; then the options of RFC 4861 and attributes of netlink.
const (
	userOptionHead = 16
	optionRDNSS    = 25
	optionDNSSL    = 31
	advertisement  = 134
	optionHead     = 8 // type, length in units of 8 bytes, reserved, lifetime
)

func userOption(p []byte) (e Event, ok bool) {
	if len(p) < userOptionHead || p[0] != unix.AF_INET6 || p[8] != advertisement {
		return e, false
	}
	e.Index = int(int32(binary.NativeEndian.Uint32(p[4:])))
	options := p[userOptionHead:]
	options = options[:min(int(binary.NativeEndian.Uint16(p[2:])), len(options))]
	for len(options) >= optionHead {
		length := int(options[1]) * 8
		if length < optionHead || length > len(options) {
			break
		}
		seconds := binary.BigEndian.Uint32(options[4:])
		lifetime := time.Duration(seconds) * time.Second
		switch options[0] {
		case optionRDNSS:
			e.servers(options[optionHead:length], lifetime)
		case optionDNSSL:
			e.domains(options[optionHead:length], lifetime)
		}
		options = options[length:]
	}
	return e, e.Index > 0 && len(e.Servers)+len(e.Domains) > 0
}

func (e *Event) servers(p []byte, lifetime time.Duration) {
	for ; len(p) >= 16 && len(e.Servers) < maxServers; p = p[16:] {
		a := netip.AddrFrom16([16]byte(p))
		if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6() {
			continue
		}
		e.Servers = append(e.Servers, Server{a, lifetime})
	}
}

// domains reads names of RFC 1035 without compression, padded with zeros.
func (e *Event) domains(p []byte, lifetime time.Duration) {
	name := ""
	for len(p) > 0 && len(e.Domains) < maxDomains {
		length := int(p[0])
		if length == 0 {
			if hostname.Valid(name) {
				e.Domains = append(e.Domains, Domain{name, lifetime})
			}
			name, p = "", p[1:]
			continue
		}
		if length > 63 || length >= len(p) {
			return
		}
		if name != "" {
			name += "."
		}
		name, p = name+string(p[1:1+length]), p[1+length:]
	}
}

// The flags in IFLA_INET6_FLAGS: IF_RA_OTHERCONF and IF_RA_MANAGED of the kernel.
const (
	flagOther   = 0x80
	flagManaged = 0x40
)

// linkFlags reads the flags of the last advertisement from a message about a link. Before the first one, none is set.
func linkFlags(p []byte) (e Event, ok bool) {
	if len(p) < unix.SizeofIfInfomsg || p[0] != unix.AF_INET6 {
		return e, false
	}
	e.Index, e.Flagged = int(int32(binary.NativeEndian.Uint32(p[4:]))), true
	flags, found := attribute(p[unix.SizeofIfInfomsg:], unix.IFLA_PROTINFO)
	if found {
		flags, found = attribute(flags, unix.IFLA_INET6_FLAGS)
	}
	if !found || len(flags) < 4 {
		return e, false
	}
	bits := binary.NativeEndian.Uint32(flags)
	e.Flags = Flags{Managed: bits&flagManaged != 0, Other: bits&flagOther != 0}
	return e, e.Index > 0
}

// attribute finds the first attribute of a kind.
func attribute(p []byte, kind uint16) ([]byte, bool) {
	for len(p) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(p))
		if length < unix.SizeofRtAttr || length > len(p) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(p[2:])&^uint16(unix.NLA_F_NESTED) == kind {
			return p[unix.SizeofRtAttr:length], true
		}
		p = p[min((length+3)&^3, len(p)):]
	}
	return nil, false
}
