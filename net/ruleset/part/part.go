// Package part owns the conditions and statements of rules of the packet filter: their words in the language of nft(8),
// and what the kernel executes for them. It never speaks with the kernel (ruleset does). Read first: Part.
package part

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Part is a condition or a statement of a rule: its words, and what the kernel executes for them.
type Part struct {
	text  string
	exprs []expr.Any
}

// String returns the words.
func (p Part) String() string { return p.text }

// Exprs returns what the kernel executes.
func (p Part) Exprs() []expr.Any { return p.exprs }

// Meter is a set in which the kernel counts for each source address by itself.
type Meter struct {
	Name string
	Six  bool // addresses of IPv6
	Size uint32
	Idle time.Duration // after which a source is forgotten
}

// Allowed is the bit in the mark of a packet that says: somebody allows it. The chains that drop what is not allowed
// (those of containers and of sharing, the filter) let it pass.
const Allowed uint32 = 1 << 28

// Direct is the bit in the mark of a packet that says: this is a connection to the proxy server, or a question about
// one link alone, and is never led through the proxy (net/proxy).
const Direct uint32 = 1 << 29

const register = 1

// Not in package unix: NFT_META_IIFKIND and NFT_META_OIFKIND of linux/netfilter/nf_tables.h.
const metaInKind, metaOutKind = expr.MetaKey(26), expr.MetaKey(27)

// In is the link that a packet comes from; "net-*" stands for all links whose names begin so.
func In(link string) Part { return onLink("iifname", expr.MetaKeyIIFNAME, link, expr.CmpOpEq) }

// Out is the link that a packet leaves through.
func Out(link string) Part { return onLink("oifname", expr.MetaKeyOIFNAME, link, expr.CmpOpEq) }

// NotIn is every other link.
func NotIn(link string) Part { return onLink("iifname !=", expr.MetaKeyIIFNAME, link, expr.CmpOpNeq) }

func onLink(word string, key expr.MetaKey, link string, op expr.CmpOp) Part {
	return Part{fmt.Sprintf("%s %q", word, link), []expr.Any{meta(key), compare(op, linkBytes(link))}}
}

// Virtual says that a packet comes from a link without hardware, such as a bridge of containers (iif), or leaves
// through such a link (oif).
func Virtual(which string) Part {
	key, known := map[string]expr.MetaKey{"iif": metaInKind, "oif": metaOutKind}[which]
	if !known {
		panic("no way " + which)
	}
	return Part{"meta " + which + `kind != ""`,
		[]expr.Any{meta(key), compare(expr.CmpOpNeq, make([]byte, unix.IFNAMSIZ))}}
}

// From is the network of the source address.
func From(p netip.Prefix) Part { return address("saddr", 12, 8, p, expr.CmpOpEq) }

// To is the network of the destination address.
func To(p netip.Prefix) Part { return address("daddr", 16, 24, p, expr.CmpOpEq) }

// NotTo is every other network of the same protocol.
func NotTo(p netip.Prefix) Part { return address("daddr !=", 16, 24, p, expr.CmpOpNeq) }

// address compares an address with p: the one at offset four of the header of IPv4, or at offset six of that of IPv6.
func address(word string, four, six uint32, p netip.Prefix, op expr.CmpOp) Part {
	family, offset, number := "ip", four, byte(unix.NFPROTO_IPV4)
	if p.Addr().Is6() {
		family, offset, number = "ip6", six, unix.NFPROTO_IPV6
	}
	size := p.Addr().BitLen() / 8
	exprs := []expr.Any{meta(expr.MetaKeyNFPROTO), compare(expr.CmpOpEq, []byte{number}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)}}
	text := p.Masked().String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	} else {
		exprs = append(exprs, &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(size),
			Mask: net.CIDRMask(p.Bits(), size*8), Xor: make([]byte, size)})
	}
	return Part{family + " " + word + " " + text, append(exprs, compare(op, p.Masked().Addr().AsSlice()))}
}

// NoWayBack says that no route leads to the source: it is invented.
func NoWayBack() Part {
	return Part{"fib saddr oif missing", []expr.Any{
		&expr.Fib{Register: register, FlagSADDR: true, ResultOIF: true, FlagPRESENT: true},
		compare(expr.CmpOpEq, make([]byte, 4))}} // nft(8) writes four bytes too
}

// WayBack is the link that the route to the source leads to; "net-*" stands for all links whose names begin so. The
// kernel compares the best route only, which with several uplinks is often not the one that a packet came by.
func WayBack(link string) Part {
	return Part{fmt.Sprintf("fib saddr oifname %q", link), []expr.Any{
		&expr.Fib{Register: register, FlagSADDR: true, ResultOIFNAME: true}, compare(expr.CmpOpEq, linkBytes(link))}}
}

// Kind says what an address, saddr or daddr, is to the device: local, broadcast or multicast.
func Kind(which, kind string) Part {
	number, known := map[string]uint32{"local": unix.RTN_LOCAL, "broadcast": unix.RTN_BROADCAST,
		"multicast": unix.RTN_MULTICAST}[kind]
	if !known {
		panic("no kind of address " + kind)
	}
	source := which == "saddr"
	return Part{"fib " + which + " type " + kind, []expr.Any{
		&expr.Fib{Register: register, FlagSADDR: source, FlagDADDR: !source, ResultADDRTYPE: true},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(number))}}
}

// Port is the protocol tcp or udp, and ports of the destination.
func Port(protocol string, first, last uint16) Part {
	number := byte(unix.IPPROTO_TCP)
	if protocol == "udp" {
		number = unix.IPPROTO_UDP
	}
	exprs := []expr.Any{meta(expr.MetaKeyL4PROTO), compare(expr.CmpOpEq, []byte{number}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
	low := binary.BigEndian.AppendUint16(nil, first)
	if first == last {
		return Part{fmt.Sprintf("%s dport %d", protocol, first), append(exprs, compare(expr.CmpOpEq, low))}
	}
	high := binary.BigEndian.AppendUint16(nil, last)
	return Part{fmt.Sprintf("%s dport %d-%d", protocol, first, last),
		append(exprs, &expr.Range{Op: expr.CmpOpEq, Register: register, FromData: low, ToData: high})}
}

// Protocol is what a packet carries: tcp, icmp, ipv6-icmp or igmp.
func Protocol(name string) Part {
	number, known := map[string]byte{"icmp": unix.IPPROTO_ICMP, "ipv6-icmp": unix.IPPROTO_ICMPV6,
		"igmp": unix.IPPROTO_IGMP, "tcp": unix.IPPROTO_TCP}[name]
	if !known {
		panic("no protocol " + name)
	}
	return Part{"meta l4proto " + name, []expr.Any{meta(expr.MetaKeyL4PROTO), compare(expr.CmpOpEq, []byte{number})}}
}

// Group says that the packet is for a socket which was made in a cgroup, or below it. path is relative to the top of
// the file system of cgroups, id the number of its inode.
func Group(path string, id uint64) Part {
	level := uint32(strings.Count(path, "/") + 1)
	return Part{fmt.Sprintf("socket cgroupv2 level %d %q", level, path), []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level, Register: register},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint64(id))}}
}

// EchoRequest is a ping.
func EchoRequest(six bool) Part {
	p, word, number := Protocol("icmp"), "icmp", byte(8)
	if six {
		p, word, number = Protocol("ipv6-icmp"), "icmpv6", 128
	}
	return Part{word + " type echo-request", append(p.exprs,
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		compare(expr.CmpOpEq, []byte{number}))}
}

// Connection is the state of the packet's connection: several of established, related, new, invalid; or dnat alone: a
// rule has changed its destination.
func Connection(states ...string) Part {
	if slices.Equal(states, []string{"dnat"}) {
		const changed = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
		return Part{"ct status dnat", bitsOf(&expr.Ct{Key: expr.CtKeySTATUS, Register: register}, changed)}
	}
	bits := uint32(0)
	for _, s := range states {
		bit, known := map[string]uint32{"established": expr.CtStateBitESTABLISHED, "related": expr.CtStateBitRELATED,
			"new": expr.CtStateBitNEW, "invalid": expr.CtStateBitINVALID}[s]
		if !known {
			panic("no state " + s)
		}
		bits |= bit
	}
	load := &expr.Ct{Key: expr.CtKeySTATE, Register: register}
	return Part{"ct state " + strings.Join(states, ","), bitsOf(load, bits)}
}

// bitsOf matches if one of the bits is set in what load loads.
func bitsOf(load expr.Any, bits uint32) []expr.Any {
	return []expr.Any{load,
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		compare(expr.CmpOpNeq, make([]byte, 4))}
}

// Mark gives the packet a bit that chains of later priority see.
func Mark(bit uint32) Part {
	return Part{fmt.Sprintf("meta mark set meta mark | 0x%08x", bit), []expr.Any{meta(expr.MetaKeyMARK),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register}}}
}

// Marked says that the packet has the bit.
func Marked(bit uint32) Part {
	return Part{fmt.Sprintf("meta mark & 0x%08x != 0x00000000", bit), bitsOf(meta(expr.MetaKeyMARK), bit)}
}

// Rate is how much may happen: so many packets a second or minute, and more at once after a pause.
type Rate struct {
	Packets uint64
	Minute  bool
	Burst   uint32
}

func (r Rate) unit() (string, expr.LimitTime) {
	if r.Minute {
		return "minute", expr.LimitTimeMinute
	}
	return "second", expr.LimitTimeSecond
}

func (r Rate) limit() *expr.Limit {
	_, unit := r.unit()
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: r.Packets, Unit: unit, Burst: r.Burst, Over: true}
}

func (r Rate) String() string {
	unit, _ := r.unit()
	text := fmt.Sprintf("limit rate over %d/%s", r.Packets, unit)
	if r.Burst != 5 { // nft(8) leaves out its default
		text += fmt.Sprintf(" burst %d packets", r.Burst)
	}
	return text
}

// Over matches what is above a rate.
func Over(r Rate) Part { return Part{r.String(), []expr.Any{r.limit()}} }

// OverEach matches what is above a rate of one source address, which the meter counts.
func OverEach(m Meter, r Rate) Part {
	family, offset, size, number := "ip", uint32(12), uint32(4), byte(unix.NFPROTO_IPV4)
	if m.Six {
		family, offset, size, number = "ip6", 8, 16, unix.NFPROTO_IPV6
	}
	return Part{fmt.Sprintf("add @%s { %s saddr %s }", m.Name, family, r), []expr.Any{
		meta(expr.MetaKeyNFPROTO), compare(expr.CmpOpEq, []byte{number}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Dynset{SrcRegKey: register, SetName: m.Name, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{r.limit()}}}}
}

// Do ends the rule: accept, drop, return, masquerade, "jump CHAIN", or "redirect to :PORT", which is one of the device.
func Do(verdict string) Part {
	if text, redirect := strings.CutPrefix(verdict, "redirect to :"); redirect {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			return Part{verdict, []expr.Any{
				&expr.Immediate{Register: register, Data: []byte{byte(port >> 8), byte(port)}},
				&expr.Redir{RegisterProtoMin: register}}}
		}
	}
	if chain, jump := strings.CutPrefix(verdict, "jump "); jump {
		return Part{verdict, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}}
	}
	switch verdict {
	case "accept":
		return Part{verdict, []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
	case "drop":
		return Part{verdict, []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}
	case "return":
		return Part{verdict, []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}}
	case "masquerade":
		return Part{verdict, []expr.Any{&expr.Masq{}}}
	}
	panic("no verdict " + verdict)
}

func meta(key expr.MetaKey) *expr.Meta { return &expr.Meta{Key: key, Register: register} }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

func linkBytes(name string) []byte {
	if prefix, all := strings.CutSuffix(name, "*"); all {
		return []byte(prefix)
	}
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}
