package mdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/dnswire"
	"resinos/net/link"
	"resinos/net/linkwatch"
)

var (
	group4 = netip.MustParseAddr("224.0.0.251")
	group6 = netip.MustParseAddr("ff02::fb")
)

// face is a link on which we answer.
type face struct {
	index     int
	name      string
	addresses []netip.Prefix
}

// observe returns the links with a carrier that are served, with the addresses that can be used.
func observe(sys string, serves func(link.Link) bool) (map[int]face, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	out := map[int]face{}
	for _, nl := range links {
		l := link.FromNetlink(sys, nl)
		if !l.Up || !l.Carrier || !serves(l) || nl.Attrs().Flags&net.FlagMulticast == 0 {
			continue
		}
		list, err := netlink.AddrList(nl, netlink.FAMILY_ALL)
		if err != nil {
			continue // the link is gone
		}
		f := face{index: l.Index, name: l.Name}
		for _, a := range list {
			const unfit = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY
			addr, ok := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			if ok && a.Flags&unfit == 0 {
				f.addresses = append(f.addresses, netip.PrefixFrom(addr.Unmap(), ones))
			}
		}
		if len(f.addresses) > 0 {
			out[f.index] = f
		}
	}
	return out, nil
}

// watcher reports that links or addresses have changed, many changes at once as one.
type watcher struct {
	kernel  *linkwatch.Watcher
	changed chan struct{}
	work    sync.WaitGroup
}

func watch() (*watcher, error) {
	kernel, err := linkwatch.Watch()
	if err != nil {
		return nil, err
	}
	w := &watcher{kernel: kernel, changed: make(chan struct{}, 1)}
	w.work.Go(func() {
		for range kernel.Changes {
			select {
			case w.changed <- struct{}{}:
			default: // one waits already
			}
		}
	})
	return w, nil
}

func (w *watcher) close() {
	w.kernel.Close()
	w.work.Wait()
}

// socket is what we hear and say on one link.
type socket struct {
	face
	four, six *net.UDPConn // nil: the kernel has none of the family
	done      chan struct{}
}

// open opens the sockets of a link, bound to it: other links do not reach them.
func open(f face) (*socket, error) {
	s := &socket{face: f, done: make(chan struct{})}
	var err4, err6 error
	s.four, err4 = listen("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port), f, true)
	s.six, err6 = listen("udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), port), f, true)
	if s.four == nil && s.six == nil {
		return nil, errors.Join(err4, err6)
	}
	return s, nil
}

// listen opens one socket on a link, in the group if member is true.
func listen(network string, at netip.AddrPort, f face, member bool) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if control := raw.Control(func(fd uintptr) { err = set(int(fd), at.Addr().Is4(), f, member) }); control != nil {
			return control
		}
		return err
	}}
	conn, err := config.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return nil, fmt.Errorf("open socket on %s: %w", f.name, err)
	}
	return conn.(*net.UDPConn), nil
}

func set(fd int, four bool, f face, member bool) error {
	one := func(level, option, value int) error { return unix.SetsockoptInt(fd, level, option, value) }
	err := errors.Join(one(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(fd, f.name))
	if four {
		err = errors.Join(err, one(unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 255), one(unix.IPPROTO_IP, unix.IP_TTL, 255),
			unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(f.index)}))
		if member {
			err = errors.Join(err, unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
				&unix.IPMreqn{Multiaddr: group4.As4(), Ifindex: int32(f.index)}))
		}
		return err
	}
	err = errors.Join(err, one(unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		one(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255), one(unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, f.index))
	if member {
		err = errors.Join(err, unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group6.As16(), Interface: uint32(f.index)}))
	}
	return err
}

// update takes note of the link's addresses. The reader does not use them.
func (s *socket) update(f face) { s.addresses = f.addresses }

// send sends to one client, or to the group in each family in which the link has an address.
func (s *socket) send(p []byte, to netip.AddrPort) error {
	if to.IsValid() {
		conn := s.six
		if to.Addr().Unmap().Is4() {
			conn = s.four
		}
		if conn == nil {
			return nil
		}
		_, err := conn.WriteToUDPAddrPort(p, to)
		return err
	}
	var errs error
	for _, one := range []struct {
		conn  *net.UDPConn
		group netip.Addr
	}{{s.four, group4}, {s.six, group6.WithZone(s.name)}} {
		if one.conn == nil || len(addressesOf(s.addresses, one.group.Is4())) == 0 {
			continue
		}
		_, err := one.conn.WriteToUDPAddrPort(p, netip.AddrPortFrom(one.group, port))
		errs = errors.Join(errs, err)
	}
	return errs
}

// The limits of what is read of one link. What is beyond them is left to the kernel, which drops it.
const (
	maxPacket = 9000 // RFC 6762, 17
	perSecond = 200
)

// read passes what comes over the link on, until close.
func (s *socket) read(packets chan<- Packet) {
	var both sync.WaitGroup
	for _, conn := range []*net.UDPConn{s.four, s.six} {
		if conn != nil {
			both.Go(func() { s.readOne(conn, packets) })
		}
	}
	both.Wait()
}

func (s *socket) readOne(conn *net.UDPConn, packets chan<- Packet) {
	buf := make([]byte, maxPacket+1)
	count, second := 0, time.Now()
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if now := time.Now(); now.Sub(second) >= time.Second {
			count, second = 0, now
		} else if count++; count == perSecond && !s.rest(time.Second-now.Sub(second)) {
			return
		}
		if err != nil || n > maxPacket {
			continue
		}
		m, err := dnswire.ParseMessage(buf[:n])
		if err != nil {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		select {
		case packets <- Packet{Link: s.index, From: from, Message: m}:
		case <-s.done:
			return
		}
	}
}

// rest waits, and reports whether the socket is still open.
func (s *socket) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

func (s *socket) close() {
	close(s.done)
	for _, conn := range []*net.UDPConn{s.four, s.six} {
		if conn != nil {
			conn.Close() // nothing is lost
		}
	}
}
