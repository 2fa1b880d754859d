// Package arp asks which station on a link has an address (RFC 5227): it sends the question and receives the answers.
//
// It never decides what follows from them (lease does). Read first: Socket.
package arp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is a packet socket on one link, for one address. The kernel passes on only what another station says about
// that address, so that other traffic on the network wakes nobody.
type Socket struct {
	file     *os.File
	index    int
	name     string
	hardware net.HardwareAddr
	addr     netip.Addr
}

// Open opens the socket for the link with that index and name and a six-byte hardware address.
func Open(index int, name string, hardware net.HardwareAddr, addr netip.Addr) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open ARP socket on %s: %w", name, err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "arp:"+name), index: index, name: name, hardware: hardware, addr: addr}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer),
		attach(fd, claims(hardware, addr)))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: index})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ARP socket on %s: %w", name, err), s.file.Close())
	}
	return s, nil
}

// Close ends Receive.
func (s *Socket) Close() error { return s.file.Close() }

// Probe asks who has the address, without an address of its own: the question does not disturb the station that has it.
func (s *Socket) Probe() error { return s.send(netip.IPv4Unspecified()) }

// Announce informs all stations that the address is ours.
func (s *Socket) Announce() error { return s.send(s.addr) }

func (s *Socket) send(sender netip.Addr) error {
	packet := arpRequest(s.hardware, sender, s.addr)
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: s.index, Halen: 6,
		Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("ask for %s on %s: %w", s.addr, s.name, err)
	}
	var fault error
	err = conn.Control(func(fd uintptr) { fault = unix.Sendto(int(fd), packet, 0, to) })
	if err := errors.Join(err, fault); err != nil {
		return fmt.Errorf("ask for %s on %s: %w", s.addr, s.name, err)
	}
	return nil
}

// Receive blocks until another station has or wants the address, and returns its hardware address. Close ends it with
// os.ErrClosed.
func (s *Socket) Receive() (net.HardwareAddr, error) {
	buf := make([]byte, arpSize)
	for {
		size, err := s.file.Read(buf)
		if err != nil {
			return nil, err
		}
		if who := claimant(buf[:size], s.hardware, s.addr); who != nil {
			return who, nil
		}
	}
}

// The layout of an ARP packet of IPv4 over ethernet (RFC 826).
const (
	arpSize         = 28
	arpSender       = 8  // hardware address
	arpSenderIP     = 14 // 0.0.0.0 in a probe
	arpTargetIP     = 24
	arpTypes        = "\x00\x01\x08\x00\x06\x04" // ethernet, IPv4, and the lengths of their addresses
	arpRequestCode  = 1
	arpOperation    = 6
	arpSenderSecond = arpSender + 4 // the rest of the hardware address, after its first word
)

func arpRequest(hardware net.HardwareAddr, sender, target netip.Addr) []byte {
	p := make([]byte, arpSize)
	copy(p, arpTypes)
	binary.BigEndian.PutUint16(p[arpOperation:], arpRequestCode)
	copy(p[arpSender:], hardware)
	copy(p[arpSenderIP:], sender.AsSlice())
	copy(p[arpTargetIP:], target.AsSlice())
	return p
}

// claimant returns the hardware address of another station that has addr, or that asks for addr because it wants it
// itself; nil if the packet says neither. RFC 5227, 2.1.1.
func claimant(p []byte, ours net.HardwareAddr, addr netip.Addr) net.HardwareAddr {
	if len(p) < arpSize || string(p[:len(arpTypes)]) != arpTypes {
		return nil
	}
	who := net.HardwareAddr(bytes.Clone(p[arpSender : arpSender+6]))
	sender, target := netip.AddrFrom4([4]byte(p[arpSenderIP:])), netip.AddrFrom4([4]byte(p[arpTargetIP:]))
	wants := sender.IsUnspecified() && target == addr && binary.BigEndian.Uint16(p[arpOperation:]) == arpRequestCode
	if bytes.Equal(who, ours) || sender != addr && !wants {
		return nil
	}
	return who
}

// receiveBuffer limits what the kernel queues for us; in a flood the kernel drops packets, which costs us nothing.
const receiveBuffer = 16 << 10

func attach(fd int, program []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// The classic BPF instructions that claims uses.
const (
	loadHalf  = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
	loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	give      = unix.BPF_RET | unix.BPF_K
)

// claims is the part of claimant that the kernel's filter can do: another sender, and the address as that of the sender
// or as the target of a probe.
func claims(ours net.HardwareAddr, addr netip.Addr) []unix.SockFilter {
	word := binary.BigEndian.Uint32(addr.AsSlice())
	return []unix.SockFilter{
		{Code: loadWord, K: arpSender},
		{Code: jumpEqual, K: binary.BigEndian.Uint32(ours), Jf: 2}, // another sender: continue with the addresses
		{Code: loadHalf, K: arpSenderSecond},
		{Code: jumpEqual, K: uint32(binary.BigEndian.Uint16(ours[4:])), Jt: 6}, // our own packet, sent back by a switch
		{Code: loadWord, K: arpSenderIP},
		{Code: jumpEqual, K: word, Jt: 3},
		{Code: jumpEqual, K: 0, Jf: 3},
		{Code: loadWord, K: arpTargetIP},
		{Code: jumpEqual, K: word, Jf: 1},
		{Code: give, K: arpSize},
		{Code: give, K: 0},
	}
}
