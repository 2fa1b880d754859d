package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ifaProto is IFA_PROTO of linux/if_addr.h. The package builds and parses these messages itself because the netlink
// library does not know it.
const ifaProto = 11

// addresses lists the addresses of a link.
func addresses(index int) ([]Address, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	var out []Address
	for _, m := range messages {
		a, of, err := parseAddress(m)
		if err != nil {
			return nil, err
		}
		if of == index {
			out = append(out, a)
		}
	}
	return out, nil
}

// parseAddress reads a message RTM_NEWADDR: the address and its link.
func parseAddress(m []byte) (a Address, index int, err error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return a, 0, fmt.Errorf("a message about an address has %d bytes", len(m))
	}
	head := nl.DeserializeIfAddrmsg(m)
	attributes, err := nl.ParseRouteAttr(m[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, 0, fmt.Errorf("parse address: %w", err)
	}
	a.Valid = Forever // unless the message has another lifetime
	var local, address netip.Addr
	for _, one := range attributes {
		switch value := one.Value; {
		case one.Attr.Type == unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case one.Attr.Type == unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(value)
		case one.Attr.Type == unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(value)
		case one.Attr.Type == ifaProto && len(value) > 0:
			a.Ours = value[0] == Protocol
		case one.Attr.Type == unix.IFA_CACHEINFO && len(value) >= unix.SizeofIfaCacheinfo:
			a.Valid = time.Duration(binary.NativeEndian.Uint32(value[4:])) * time.Second
		}
	}
	if !local.IsValid() {
		local = address
	}
	a.Prefix = netip.PrefixFrom(local, int(head.Prefixlen))
	if !a.Prefix.IsValid() {
		return a, 0, fmt.Errorf("parse address: %v/%d is not an address", local, head.Prefixlen)
	}
	return a, int(head.Index), nil
}

// putAddress sets the address, or its lifetime if the link has it. It marks the address with our protocol and keeps the
// kernel from adding a subnet route, because ours has a metric.
func putAddress(index int, a Address) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	head := nl.NewIfAddrmsg(family(a.Prefix.Addr()))
	head.Index, head.Prefixlen = uint32(index), uint8(a.Prefix.Bits())
	request.AddData(head)
	add := func(kind int, value []byte) { request.AddData(nl.NewRtAttr(kind, value)) }
	add(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice())
	add(unix.IFA_ADDRESS, a.Prefix.Addr().AsSlice())
	if a.Broadcast.IsValid() {
		add(unix.IFA_BROADCAST, a.Broadcast.AsSlice())
	}
	add(ifaProto, []byte{Protocol})
	flags := uint32(unix.IFA_F_NOPREFIXROUTE)
	if a.Unchecked {
		flags |= unix.IFA_F_NODAD
	}
	add(unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, flags))
	valid := uint32(min(max(a.Valid, time.Second), Forever) / time.Second)
	info := binary.NativeEndian.AppendUint32(nil, valid) // preferred
	info = binary.NativeEndian.AppendUint32(info, valid)
	// and the times of creation and change, which the kernel fills in
	add(unix.IFA_CACHEINFO, append(info, make([]byte, 8)...))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
