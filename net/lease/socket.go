package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// receiveBuffer limits what the kernel queues for us; in a flood the kernel drops packets, which costs us nothing.
const receiveBuffer = 64 << 10

// Socket is a packet socket on one link. It sends broadcasts before there is an address, and receives only messages for
// this client, because the kernel filters by hardware address and transaction. Renewals are sent by an ordinary UDP
// socket, which knows the route to the server. The nclient4 package of the DHCP library has no such filter and wakes up
// for every IP packet on the link.
type Socket struct {
	file     *os.File
	index    int
	hardware net.HardwareAddr
	name     string

	mu      sync.Mutex // guards unicast
	unicast *net.UDPConn
}

// Open opens the socket for the link with that index and name and a six-byte hardware address.
func Open(index int, name string, hardware net.HardwareAddr, xid dhcpv4.TransactionID) (*Socket, error) {
	// Protocol 0 receives nothing until the filter is in place and bind names the protocol.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, fmt.Errorf("open packet socket: %w: the kernel has no packet sockets (module af_packet)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "packet:"+name), index: index, name: name, hardware: hardware}
	if err := s.prepare(fd, xid); err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket on %s: %w", name, err), s.file.Close())
	}
	return s, nil
}

func (s *Socket) prepare(fd int, xid dhcpv4.TransactionID) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return err
	}
	if err := attach(fd, filter(s.hardware, xid)); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: s.index})
}

// Expect changes the transaction whose replies are received.
func (s *Socket) Expect(xid dhcpv4.TransactionID) error {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	err = conn.Control(func(fd uintptr) { fault = attach(int(fd), filter(s.hardware, xid)) })
	return errors.Join(err, fault)
}

// Receive blocks until a message for this client arrives, and returns it; buf contains it until the next call. Close
// ends Receive with os.ErrClosed. Packets that only look like ours are skipped.
func (s *Socket) Receive(buf []byte) ([]byte, error) {
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return nil, err
		}
		if message, err := Undatagram(buf[:n]); err == nil {
			return message, nil
		}
	}
}

// Broadcast sends a message to every server on the link.
func (s *Socket) Broadcast(m *dhcpv4.DHCPv4) error {
	src, _ := netip.AddrFromSlice(m.ClientIPAddr.To4())
	packet := Datagram(src, m.ToBytes())
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: s.index, Halen: 6,
		Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("broadcast %s on %s: %w", m.MessageType(), s.name, err)
	}
	var fault error
	err = conn.Control(func(fd uintptr) { fault = unix.Sendto(int(fd), packet, 0, to) })
	if err := errors.Join(err, fault); err != nil {
		return fmt.Errorf("broadcast %s on %s: %w", m.MessageType(), s.name, err)
	}
	return nil
}

// Unicast sends a message to one server from the client's address in it. The UDP socket stays open until Close, so that
// the kernel does not answer the reply with "port unreachable"; the reply itself is read from the packet socket.
func (s *Socket) Unicast(m *dhcpv4.DHCPv4, to netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unicast == nil {
		from := &net.UDPAddr{IP: m.ClientIPAddr, Port: clientPort}
		conn, err := listen(s.name, from)
		if err != nil {
			return fmt.Errorf("open socket on %s: %w", from, err)
		}
		s.unicast = conn
	}
	if _, err := s.unicast.WriteToUDPAddrPort(m.ToBytes(), netip.AddrPortFrom(to, serverPort)); err != nil {
		return fmt.Errorf("send %s to %s: %w", m.MessageType(), to, err)
	}
	return nil
}

// listen opens a UDP socket that is bound to the link.
func listen(name string, from *net.UDPAddr) (*net.UDPConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "udp:"+name)
	defer file.Close() // FilePacketConn keeps its own copy
	if err := errors.Join(
		unix.BindToDevice(fd, name),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0), // the smallest; nobody reads from the socket
		unix.Bind(fd, &unix.SockaddrInet4{Port: from.Port, Addr: [4]byte(from.IP.To4())}),
	); err != nil {
		return nil, err
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// Close closes both sockets and ends Receive.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.file.Close()
	if s.unicast != nil {
		err = errors.Join(err, s.unicast.Close())
	}
	return err
}

func attach(fd int, program []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// The classic BPF instructions that filter uses.
const (
	loadByte  = unix.BPF_LD | unix.BPF_B
	loadHalf  = unix.BPF_LD | unix.BPF_H
	loadWord  = unix.BPF_LD | unix.BPF_W
	loadIPLen = unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH // X = length of the IP header
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpBits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	give      = unix.BPF_RET | unix.BPF_K
)

// filter passes what Undatagram and Machine accept: a complete UDP datagram to the client port, containing a BOOTP
// reply with our transaction id and hardware address. Offsets count from the IP header.
func filter(hardware net.HardwareAddr, xid dhcpv4.TransactionID) []unix.SockFilter {
	checks := []struct {
		load  uint16
		at    uint32
		jump  uint16
		value uint32
	}{
		{loadByte | unix.BPF_ABS, 9, jumpEqual, protocolUDP},
		{loadHalf | unix.BPF_ABS, 6, jumpBits, 0x3fff}, // more fragments, or not the first one
		{loadHalf | unix.BPF_IND, 2, jumpEqual, clientPort},
		{loadByte | unix.BPF_IND, udpHeader, jumpEqual, uint32(dhcpv4.OpcodeBootReply)},
		{loadWord | unix.BPF_IND, udpHeader + 4, jumpEqual, binary.BigEndian.Uint32(xid[:])},
		{loadWord | unix.BPF_IND, udpHeader + 28, jumpEqual, binary.BigEndian.Uint32(hardware)},
		{loadHalf | unix.BPF_IND, udpHeader + 32, jumpEqual, uint32(binary.BigEndian.Uint16(hardware[4:]))},
	}
	program := []unix.SockFilter{{Code: loadIPLen, K: 0}}
	for i, c := range checks {
		drop := uint8(2*(len(checks)-i) - 1) // instructions between this jump and the last one
		jump := unix.SockFilter{Code: c.jump, K: c.value, Jf: drop}
		if c.jump == jumpBits {
			jump.Jt, jump.Jf = drop, 0
		}
		program = append(program, unix.SockFilter{Code: c.load, K: c.at}, jump)
	}
	return append(program, unix.SockFilter{Code: give, K: maxPacket}, unix.SockFilter{Code: give, K: 0})
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
