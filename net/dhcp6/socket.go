package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is the client's socket on one link.
type Socket struct {
	conn *net.UDPConn
	name string
}

// The ports and the address of RFC 8415, section 7.
const (
	clientPort = 546
	serverPort = 547
)

// servers is the group of all servers and relays of a link.
var servers = net.IP{0: 0xff, 1: 2, 13: 1, 15: 2}

// Open opens the socket of a link, which gets nothing from other links.
func Open(name string) (*Socket, error) {
	l := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var fault error
		err := raw.Control(func(fd uintptr) {
			fault = errors.Join(unix.BindToDevice(int(fd), name),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10))
		})
		return errors.Join(err, fault)
	}}
	conn, err := l.ListenPacket(context.Background(), "udp6", fmt.Sprintf("[::]:%d", clientPort))
	if err != nil {
		return nil, fmt.Errorf("open DHCPv6 socket on %s: %w", name, err)
	}
	return &Socket{conn.(*net.UDPConn), name}, nil
}

// Send sends a message to all servers of the link. It fails while the link has no link-local address.
func (s *Socket) Send(p []byte) error {
	if _, err := s.conn.WriteToUDP(p, &net.UDPAddr{IP: servers, Port: serverPort, Zone: s.name}); err != nil {
		return fmt.Errorf("send DHCPv6 message on %s: %w", s.name, err)
	}
	return nil
}

// Receive blocks until a message comes and returns it in buf. Close ends it.
func (s *Socket) Receive(buf []byte) ([]byte, error) {
	n, _, err := s.conn.ReadFromUDPAddrPort(buf)
	return buf[:n], err
}

// Close closes the socket.
func (s *Socket) Close() error { return s.conn.Close() }
