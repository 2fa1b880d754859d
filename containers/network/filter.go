package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/ruleset/part"
)

// tableName is the name of our tables in the packet filter, of the families ip and ip6.
const tableName = "resinos-containers"

const (
	register   = 1
	portOfDNAT = 2
	// Not in package unix: NFT_META_IIFKIND and NFT_META_OIFKIND of linux/netfilter/nf_tables.h.
	metaInKind, metaOutKind = expr.MetaKey(26), expr.MetaKey(27)
	// IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
	statusDNAT = 1 << 5
)

// buffer is the room for a transaction, and for the answers to it.
const buffer = 32 << 20

// applyRules replaces our table in one transaction, so that no packet meets an incomplete one. Without rules it removes
// the table.
func applyRules(rules []Rule) error {
	// A transaction is one message, and the kernel answers to each rule before any answer is read: the usual buffers
	// have room for some hundred rules.
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}))
	if err != nil {
		return fmt.Errorf("open packet filter: %w", err)
	}
	six := slices.ContainsFunc(rules, func(r Rule) bool { return r.Six })
	replaceTable(conn, nftables.TableFamilyIPv4,
		slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Six }))
	if six || hasTable(conn) { // a kernel without IPv6 would refuse the whole transaction
		replaceTable(conn, nftables.TableFamilyIPv6,
			slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return !r.Six }))
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set table %s of the packet filter: %w", tableName, err)
	}
	return nil
}

// hasTable reports whether there is our table of IPv6.
func hasTable(conn *nftables.Conn) bool {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv6)
	return err == nil && slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
}

// replaceTable adds to the transaction what replaces our table of one family, or removes it if it has no rules.
func replaceTable(conn *nftables.Conn, family nftables.TableFamily, rules []Rule) {
	table := &nftables.Table{Name: tableName, Family: family}
	conn.AddTable(table) // deleting a table that does not exist would be an error
	conn.DelTable(table)
	if len(rules) == 0 {
		return
	}
	conn.AddTable(table)
	chains := addChains(conn, table)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chains[r.Chain], Exprs: r.exprs()})
	}
}

func addChains(conn *nftables.Conn, table *nftables.Table) map[Chain]*nftables.Chain {
	out := map[Chain]*nftables.Chain{}
	for _, c := range []struct {
		chain    Chain
		kind     nftables.ChainType
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
	}{
		{published, "", nil, nil},
		{early, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw},
		{prerouting, nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest},
		{output, nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest},
		{input, nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter},
		{forward, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter},
		{postrouting, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource},
	} {
		out[c.chain] = conn.AddChain(&nftables.Chain{Name: string(c.chain), Table: table, Type: c.kind, Hooknum: c.hook,
			Priority: c.priority})
	}
	return out
}

// exprs returns the rule as expressions of the kernel.
func (r Rule) exprs() []expr.Any {
	var out []expr.Any
	add := func(given bool, list ...expr.Any) {
		if given {
			out = append(out, list...)
		}
	}
	add(r.In != "", meta(expr.MetaKeyIIFNAME), equal(expr.CmpOpEq, linkBytes(r.In)))
	add(r.InKind, meta(metaInKind), equal(expr.CmpOpNeq, make([]byte, unix.IFNAMSIZ)))
	add(r.Out != "", meta(expr.MetaKeyOIFNAME), equal(expr.CmpOpEq, linkBytes(r.Out)))
	add(r.OutKind, meta(metaOutKind), equal(expr.CmpOpNeq, make([]byte, unix.IFNAMSIZ)))
	if r.Src.IsValid() {
		add(true, compare(12, 8, r.Src)...)
	}
	if r.Dst.IsValid() {
		add(true, compare(16, 24, r.Dst)...)
	}
	add(r.Local, &expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true}, equal(expr.CmpOpEq,
		binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))
	add(r.ICMP, meta(expr.MetaKeyL4PROTO), equal(expr.CmpOpEq, []byte{r.icmp()}))
	if r.Protocol != "" {
		add(true, portsOf(r.Protocol, r.First, r.Last)...)
	}
	add(r.Known, flags(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)...)
	add(r.Redirected, flags(expr.CtKeySTATUS, statusDNAT)...)
	add(r.Allowed, anyOf(meta(expr.MetaKeyMARK), part.Allowed)...)
	return append(out, r.verdict()...)
}

func (r Rule) icmp() byte {
	if r.Six {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

func (r Rule) verdict() []expr.Any {
	switch r.Do {
	case accept:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	case drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	case jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: string(published)}}
	case masquerade:
		return []expr.Any{&expr.Masq{}}
	case dnat:
		nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register}
		if r.Six {
			nat.Family = unix.NFPROTO_IPV6
		}
		list := []expr.Any{&expr.Immediate{Register: register, Data: r.To.AsSlice()}}
		if r.Port != 0 {
			nat.RegProtoMin = portOfDNAT
			list = append(list, &expr.Immediate{Register: portOfDNAT, Data: binary.BigEndian.AppendUint16(nil, r.Port)})
		}
		return append(list, nat)
	}
	panic("no verdict " + string(r.Do))
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: register} }

func equal(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

func linkBytes(name string) []byte {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}

// compare compares an address with p: the one at offset four of the header of IPv4, or at offset six of that of IPv6.
func compare(four, six uint32, p netip.Prefix) []expr.Any {
	offset := four
	if p.Addr().Is6() {
		offset = six
	}
	size := p.Addr().BitLen() / 8
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(size),
			Mask: net.CIDRMask(p.Bits(), size*8), Xor: make([]byte, size)},
		equal(expr.CmpOpEq, p.Masked().Addr().AsSlice()),
	}
}

func portsOf(protocol string, first, last uint16) []expr.Any {
	number := byte(unix.IPPROTO_TCP)
	if protocol == "udp" {
		number = unix.IPPROTO_UDP
	}
	return []expr.Any{
		meta(expr.MetaKeyL4PROTO), equal(expr.CmpOpEq, []byte{number}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(expr.CmpOpGte, binary.BigEndian.AppendUint16(nil, first)), equal(expr.CmpOpLte,
			binary.BigEndian.AppendUint16(nil, last)),
	}
}

// flags matches if one of the bits is set in the state of the connection.
func flags(key expr.CtKey, bits uint32) []expr.Any {
	return anyOf(&expr.Ct{Key: key, Register: register}, bits)
}

// anyOf matches if one of the bits is set in what load loads.
func anyOf(load expr.Any, bits uint32) []expr.Any {
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		equal(expr.CmpOpNeq, make([]byte, 4)),
	}
}
