package lease

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// maxMessage is the largest message that we accept: an ethernet frame without the IP and UDP headers.
const maxMessage = 1472

// wishes is the parameter request list: mask, routers, name servers, host name, domain, mtu, broadcast, time servers,
// lease time, T1, T2, search list. RFC 3442 demands classless routes before routers.
var wishes = [...]uint8{1, 121, 3, 6, 12, 15, 26, 28, 42, 51, 58, 59, 119}

// message builds one of our messages. The caller adds the options of its kind (requested address, server).
func (m *Machine) message(now time.Duration, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	var codes dhcpv4.OptionCodeList
	for _, c := range wishes {
		codes = append(codes, dhcpv4.GenericOptionCode(c))
	}
	out := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootRequest,
		HWType:        1, // ethernet
		ClientHWAddr:  m.cfg.Hardware,
		TransactionID: m.xid,
		NumSeconds:    uint16(min((now-m.began)/time.Second, 0xffff)),
		ClientIPAddr:  net.IPv4zero.To4(),
		YourIPAddr:    net.IPv4zero.To4(),
		ServerIPAddr:  net.IPv4zero.To4(),
		GatewayIPAddr: net.IPv4zero.To4(),
		Options:       dhcpv4.Options{},
	}
	out.UpdateOption(dhcpv4.OptMessageType(kind))
	m.cfg.Identity.Add(out, m.cfg.Hostname)
	if kind == dhcpv4.MessageTypeDecline { // it must not contain anything else (RFC 2131, table 5)
		return out
	}
	out.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
	out.UpdateOption(dhcpv4.OptParameterRequestList(codes...))
	return out
}

// Parse reads a message from a server. Options that continue in the fields file and sname (RFC 2132, option 52) are
// read once, file first. An overload option in these fields is ignored, so it cannot loop.
func Parse(raw []byte) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.FromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	if m.OpCode != dhcpv4.OpcodeBootReply {
		return nil, errors.New("read message: not a reply")
	}
	overload := m.Options.Get(dhcpv4.OptionOptionOverload)
	if len(overload) != 1 {
		return m, nil
	}
	if overload[0]&1 != 0 {
		overflow(m.Options, raw[108:236])
	}
	if overload[0]&2 != 0 {
		overflow(m.Options, raw[44:108])
	}
	return m, nil
}

// overflow adds the options of one overloaded field. A field that does not parse adds nothing.
func overflow(into dhcpv4.Options, field []byte) {
	more := dhcpv4.Options{}
	if more.FromBytes(field) != nil {
		return
	}
	for code, value := range more {
		into[code] = append(into[code], value...) // RFC 3396: instances of one option are joined
	}
}

func option(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
