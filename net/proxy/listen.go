package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// host is where to listen, in the words of package net.
type host struct{ tcp, udp, address string }

// hosts returns where to listen: of IPv6 only if this kernel has it.
func hosts(everywhere bool) []host {
	four, six := host{"tcp4", "udp4", "127.0.0.1"}, host{"tcp6", "udp6", "[::1]"}
	if everywhere {
		four.address, six.address = "0.0.0.0", "[::]"
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil || l.Close() != nil {
		return []host{four}
	}
	return []host{four, six}
}

// listenNames opens a port for name questions. Each question comes with the address that it was sent to, so that the
// answer leaves from there.
func listenNames(ctx context.Context, h host, port uint16) (*net.UDPConn, error) {
	open := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		level, option := unix.SOL_IP, unix.IP_PKTINFO
		if h.udp == "udp6" {
			level, option = unix.SOL_IPV6, unix.IPV6_RECVPKTINFO
		}
		control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
		return errors.Join(control, err)
	}}
	c, err := open.ListenPacket(ctx, h.udp, fmt.Sprintf("%s:%d", h.address, port))
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
