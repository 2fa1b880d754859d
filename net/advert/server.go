package advert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/boottime"
)

// Server is the router of one link. Open creates one, Run serves, Set says what guests are told.
type Server struct {
	link   string
	index  int
	file   *os.File // the socket
	wanted chan Router
	log    *slog.Logger
}

// Open opens the socket on a link.
func Open(link string, index int, log *slog.Logger) (*Server, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return nil, fmt.Errorf("serve IPv6 on %s: open ICMPv6 socket: %w", link, err)
	}
	only := unix.ICMPv6Filter{}
	for i := range only.Data {
		only.Data[i] = ^uint32(0) // a set bit keeps the type out
	}
	only.Data[solicitation/32] &^= 1 << (solicitation % 32)
	set := func(option, value int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value) }
	allRouters := netip.MustParseAddr("ff02::2").As16()
	err = errors.Join(unix.BindToDevice(fd, link), set(unix.IPV6_MULTICAST_HOPS, 255),
		set(unix.IPV6_MULTICAST_IF, index), set(unix.IPV6_MULTICAST_LOOP, 0), set(unix.IPV6_RECVHOPLIMIT, 1),
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &only),
		unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: allRouters, Interface: uint32(index)}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve IPv6 on %s: %w", link, err), unix.Close(fd))
	}
	return &Server{link: link, index: index, file: os.NewFile(uintptr(fd), "icmpv6"), wanted: make(chan Router, 1),
		log: log}, nil
}

// Set says what guests are told from now on. One goroutine calls it. It does not block.
func (s *Server) Set(r Router) {
	select {
	case <-s.wanted: // nobody has seen that one
	default:
	}
	s.wanted <- r
}

// The pauses between messages: after a change and after a question. RFC 4861 wants three seconds between answers to
// all.
const (
	burst  = 3 // messages after a change, in case one is lost
	early  = 4 * time.Second
	spared = 3 * time.Second
)

// Run serves until ctx ends. What guests were told holds for half an hour: the next netd goes on.
func (s *Server) Run(ctx context.Context) {
	asked := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() { defer close(done); s.listen(asked) }()
	defer func() { s.file.Close(); <-done }()
	var now Router
	var gone past
	var last time.Time
	left := 0
	timer := time.NewTimer(interval)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.wanted:
			gone = gone.replaced(boottime.Now(), now.Prefixes, r.Prefixes)
			now, left = r, burst
			timer.Reset(0)
		case <-asked:
			timer.Reset(max(0, spared-time.Since(last)))
		case <-timer.C:
			gone = gone.since(boottime.Now())
			if err := s.send(now.Message(boottime.Now(), gone.prefixes())); err != nil {
				s.log.Debug("router advertisement not sent", "link", s.link, "error", err) // no carrier, mostly
			}
			last, left = time.Now(), max(left-1, 0)
			timer.Reset(map[bool]time.Duration{true: early, false: interval}[left > 0])
		}
	}
}

// past are the prefixes that guests have been told of and must forget, the last one at the end.
type past []Prefix

// maxPast is how many of them are told: they fit into a packet.
const maxPast = 8

// replaced returns the past after other prefixes have come.
func (p past) replaced(now time.Duration, before, after []Prefix) past {
	for _, b := range before {
		if b.Valid != 0 { // else it was gone before already
			p = append(p, Prefix{Prefix: b.Prefix, Valid: now + goneLife})
		}
	}
	var out past
	for i, one := range p {
		same := func(o Prefix) bool { return o.Prefix == one.Prefix }
		if !slices.ContainsFunc(after, same) && !slices.ContainsFunc(p[i+1:], same) {
			out = append(out, one)
		}
	}
	return out[max(len(out)-maxPast, 0):]
}

// since returns what guests may still have.
func (p past) since(now time.Duration) past {
	return slices.DeleteFunc(p, func(o Prefix) bool { return o.Valid <= now })
}

func (p past) prefixes() (out []netip.Prefix) {
	for _, o := range p {
		out = append(out, o.Prefix)
	}
	return out
}

func (s *Server) send(p []byte) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(s.index)}
	fault := raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), p, 0, to)
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(fault, err)
}

// listen passes on that somebody asks, until the socket is closed.
func (s *Server) listen(asked chan<- struct{}) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return
	}
	p, control := make([]byte, 1500), make([]byte, 128)
	for {
		n, hops := 0, 0
		fault := raw.Read(func(fd uintptr) bool {
			var length int
			n, length, _, _, err = unix.Recvmsg(int(fd), p, control, 0)
			if err == nil {
				hops = hopsOf(control[:length])
			}
			return !errors.Is(err, unix.EAGAIN)
		})
		if fault != nil {
			return // closed
		}
		if err != nil || !asks(p[:n], hops) {
			continue
		}
		select {
		case asked <- struct{}{}:
		default: // one is enough
		}
	}
}

func hopsOf(control []byte) int {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range list {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(m.Data[0]) | int(m.Data[1])<<8 // of the little-endian int of all our processors
		}
	}
	return 0
}
