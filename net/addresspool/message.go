package addresspool

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// addr is an address of a message; the zero value if it is missing or none.
func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// base is an answer without addresses.
func (m *Machine) base(kind dhcpv4.MessageType, q *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	zero := net.IPv4zero.To4()
	r := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, HWType: q.HWType, ClientHWAddr: q.ClientHWAddr,
		TransactionID: q.TransactionID, Flags: q.Flags, ClientIPAddr: zero, YourIPAddr: zero, ServerIPAddr: zero,
		GatewayIPAddr: zero, Options: dhcpv4.Options{}}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(net.IP(m.cfg.Own.Addr().AsSlice())))
	if id := q.Options.Get(dhcpv4.OptionClientIdentifier); id != nil { // RFC 6842
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, id))
	}
	return r
}

// options adds what all clients get.
func (m *Machine) options(r *dhcpv4.DHCPv4) {
	own := net.IP(m.cfg.Own.Addr().AsSlice())
	mask := net.CIDRMask(m.cfg.Own.Bits(), 32)
	r.UpdateOption(dhcpv4.OptSubnetMask(mask))
	r.UpdateOption(dhcpv4.OptBroadcastAddress(net.IP(m.at(1<<(32-m.cfg.Own.Bits()) - 1).AsSlice())))
	r.UpdateOption(dhcpv4.OptRouter(own))
	r.UpdateOption(dhcpv4.OptDNS(own))
}

// reply offers or confirms an address.
func (m *Machine) reply(kind dhcpv4.MessageType, hw Hardware, q *dhcpv4.DHCPv4, a netip.Addr,
	now time.Duration) Action {
	r := m.base(kind, q)
	m.options(r)
	r.YourIPAddr = net.IP(a.AsSlice())
	length := m.length()
	if e := m.entries[a]; e != nil && e.state == bound {
		length = e.until - now
	}
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(length))
	r.UpdateOption(dhcpv4.OptRenewTimeValue(length / 2))
	r.UpdateOption(dhcpv4.OptRebindingTimeValue(length * 7 / 8))
	to := a
	if kind == dhcpv4.MessageTypeAck && q.ClientIPAddr != nil {
		r.ClientIPAddr = q.ClientIPAddr
	}
	if q.IsBroadcast() {
		to = everybody
	}
	return Action{Verb: Send, Message: r, To: to, Client: hw}
}

// refuse has the client begin again.
func (m *Machine) refuse(hw Hardware, q *dhcpv4.DHCPv4) Action {
	return Action{Verb: Send, Message: m.base(dhcpv4.MessageTypeNak, q), To: everybody, Client: hw}
}
