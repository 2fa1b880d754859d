package lease

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// The ports of DHCP.
const (
	serverPort = 67
	clientPort = 68
)

// The lengths of the parts around a message.
const (
	ipHeader  = 20
	udpHeader = 8
	maxPacket = 4096 // no ethernet link of ours transfers a longer one without fragments, and those are filtered out
)

const protocolUDP = 17

// Datagram puts the UDP and IP headers of a broadcast from src in front of a message. src is 0.0.0.0 while we have no
// address.
func Datagram(src netip.Addr, message []byte) []byte {
	total := ipHeader + udpHeader + len(message)
	p := make([]byte, total)
	ip, udp := p[:ipHeader], p[ipHeader:]
	ip[0] = 0x45
	ip[1] = 0xc0 // precedence "internetwork control", as other clients send it
	binary.BigEndian.PutUint16(ip[2:], uint16(total))
	ip[8] = 64
	ip[9] = protocolUDP
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))

	binary.BigEndian.PutUint16(udp[0:], clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpHeader:], message)
	pseudo := uint32(sum(0, ip[12:20])) + protocolUDP + uint32(len(udp))
	check := ^sum(pseudo, udp)
	if check == 0 {
		check = 0xffff // RFC 768: zero means "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return p
}

// Undatagram returns the message in an IPv4 packet to the client port. It verifies the checksum of the IP header but
// not that of UDP: a packet from another virtual link reaches a packet socket before its checksum is filled in.
func Undatagram(p []byte) ([]byte, error) {
	if len(p) < ipHeader || p[0]>>4 != 4 {
		return nil, errors.New("read packet: not IPv4")
	}
	header := int(p[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(p[2:]))
	if header < ipHeader || total < header+udpHeader || total > len(p) {
		return nil, errors.New("read packet: lengths do not fit")
	}
	if sum(0, p[:header]) != 0xffff {
		return nil, errors.New("read packet: wrong header checksum")
	}
	if p[9] != protocolUDP || binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return nil, errors.New("read packet: not a complete UDP datagram")
	}
	udp := p[header:total] // what follows is padding of the frame
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != clientPort || length < udpHeader || length > len(udp) {
		return nil, errors.New("read packet: not to the client port")
	}
	return udp[udpHeader:length], nil
}

// sum is the folded ones' complement sum of RFC 1071 that begins with start.
func sum(start uint32, p []byte) uint16 {
	s := start
	for ; len(p) >= 2; p = p[2:] {
		s += uint32(binary.BigEndian.Uint16(p))
	}
	if len(p) == 1 {
		s += uint32(p[0]) << 8
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
