package netd

import (
	"net"
	"net/netip"
	"os"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"resinos/net/lease"
)

// The kinds of messages, in short.
const (
	typeDiscover = dhcpv4.MessageTypeDiscover
	typeOffer    = dhcpv4.MessageTypeOffer
	typeRequest  = dhcpv4.MessageTypeRequest
	typeAck      = dhcpv4.MessageTypeAck
	typeNak      = dhcpv4.MessageTypeNak
)

// request is what an impostor hears from us.
type request = *dhcpv4.DHCPv4

// wire is the impostor's hold on the far end of the cable.
type wire struct {
	file  *os.File
	index int
}

// impostor answers every message on the far end as answer likes, until the test ends.
func (d *device) impostor(answer func(*wire, request)) {
	d.t.Helper()
	w := &wire{index: d.far.Index}
	d.far.Do(func() error {
		const all = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		w.file = os.NewFile(uintptr(fd), "impostor")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: w.index})
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := w.file.Read(buf)
			if err != nil {
				return
			}
			if n < 28 || buf[9] != 17 || buf[23] != 67 {
				continue
			}
			if m, err := dhcpv4.FromBytes(buf[28:n]); err == nil && m.OpCode == dhcpv4.OpcodeBootRequest {
				answer(w, m)
			}
		}
	}()
	d.t.Cleanup(func() { w.file.Close(); <-done })
}

// build makes an answer to m that is right in all but what change does to it.
func build(m request, kind dhcpv4.MessageType, server string, change func(*dhcpv4.DHCPv4)) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: 1, ClientHWAddr: m.ClientHWAddr, TransactionID: m.TransactionID,
		YourIPAddr: net.IPv4(10, 9, 0, 120).To4(), Options: dhcpv4.Options{},
	}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
	r.UpdateOption(dhcpv4.OptRouter(net.IPv4(10, 9, 0, 1)))
	r.Options[51] = []byte{0, 0, 14, 16}
	if change != nil {
		change(r)
	}
	return r
}

func (w *wire) reply(m request, kind dhcpv4.MessageType, server string, change func(*dhcpv4.DHCPv4)) {
	w.send(build(m, kind, server, change).ToBytes())
}

// send broadcasts a message to the client port. A full queue loses it, as on a real wire.
func (w *wire) send(message []byte) {
	p := lease.Datagram(netip.MustParseAddr("10.9.0.66"), message)
	p[20], p[21], p[22], p[23] = p[22], p[23], p[20], p[21] // from the server's port to the client's
	conn, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	to := &unix.SockaddrLinklayer{Protocol: unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00, Ifindex: w.index, Halen: 6,
		Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	conn.Control(func(fd uintptr) { unix.Sendto(int(fd), p, 0, to) })
}
