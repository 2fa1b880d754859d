package ownlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"resinos/net/link"
)

// attribute returns one netlink attribute, padded.
func attribute(number uint16, value []byte) []byte {
	return nl.NewRtAttr(int(number), value).Serialize()
}

// attributes returns attributes by their number, without the flags that say how the kernel wrote them.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	out := map[uint16][]byte{}
	for _, a := range list {
		out[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return out, nil
}

// Observe lists the links with their options.
func Observe() ([]Actual, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what has changed meanwhile is read again soon
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []Actual
	for _, m := range messages {
		a, err := parse(m)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if !slices.ContainsFunc(out, func(a Actual) bool { return a.Ours && a.Kind == "bridge" }) {
		return out, nil
	}
	filtered, err := netlink.BridgeVlanList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list vlans: %w", err)
	}
	for i, a := range out {
		for _, v := range filtered[int32(a.Index)] {
			out[i].vlans = append(out[i].vlans, vlan{v.Vid, v.Vid, v.PortVID(), v.EngressUntag()})
		}
	}
	return out, nil
}

// parse reads a message RTM_NEWLINK.
func parse(m []byte) (a Actual, err error) {
	if len(m) < unix.SizeofIfInfomsg {
		return a, fmt.Errorf("a message about a link has %d bytes", len(m))
	}
	a.Index = int(nl.DeserializeIfInfomsg(m).Index)
	all, err := attributes(m[unix.SizeofIfInfomsg:])
	if err != nil {
		return a, fmt.Errorf("parse link %d: %w", a.Index, err)
	}
	four := func(n uint16) int {
		if len(all[n]) < 4 {
			return 0
		}
		return int(binary.NativeEndian.Uint32(all[n]))
	}
	a.Name = strings.TrimRight(string(all[unix.IFLA_IFNAME]), "\x00")
	a.Ours = uint32(four(unix.IFLA_GROUP)) == link.Mark
	a.Parent, a.Master = four(unix.IFLA_LINK), four(unix.IFLA_MASTER)
	a.Hardware = strings.ToUpper(net.HardwareAddr(all[unix.IFLA_ADDRESS]).String())
	about, err := attributes(all[unix.IFLA_LINKINFO])
	if err != nil {
		return a, fmt.Errorf("parse link %s: %w", a.Name, err)
	}
	a.Kind = strings.TrimRight(string(about[unix.IFLA_INFO_KIND]), "\x00")
	// Other kinds have data of other forms, which nobody looks at.
	a.options, _ = attributes(about[unix.IFLA_INFO_DATA])
	a.port, _ = attributes(about[nl.IFLA_INFO_SLAVE_DATA])
	if a.Kind == "vlan" {
		normaliseVLAN(a.options)
	}
	return a, nil
}

// normaliseVLAN gives the options of a vlan the form in which they are set.
func normaliseVLAN(options map[uint16][]byte) {
	if v := options[nl.IFLA_VLAN_FLAGS]; len(v) == 8 {
		flags := binary.NativeEndian.Uint32(v) & vlanFlags
		v = binary.NativeEndian.AppendUint32(nil, flags)
		options[nl.IFLA_VLAN_FLAGS] = binary.NativeEndian.AppendUint32(v, vlanFlags)
	}
	for _, n := range []uint16{nl.IFLA_VLAN_EGRESS_QOS, nl.IFLA_VLAN_INGRESS_QOS} {
		list, _ := nl.ParseRouteAttr(options[n]) // the kernel wrote it
		var all []mapping
		for _, one := range list {
			if v := one.Value; len(v) >= 8 {
				all = append(all, mapping{binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[4:])})
			}
		}
		options[n] = encodeMappings(all)
	}
}

// Apply carries one step out. The kernel loads the module of a kind of links by itself.
func Apply(s Step) error {
	at := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: s.index, Name: s.Link}}
	switch s.Verb {
	case Create:
		return create(s)
	case Remove:
		err := netlink.LinkDel(at)
		if errors.Is(err, unix.ENODEV) {
			return nil // it went with its parent
		}
		return err
	case Set:
		return set(s)
	case DropVLANs:
		if s.vlan.first == s.vlan.last {
			return netlink.BridgeVlanDel(at, s.vlan.first, false, false, s.self, !s.self)
		}
		return netlink.BridgeVlanDelRange(at, s.vlan.first, s.vlan.last, false, false, s.self, !s.self)
	case PutVLANs:
		if s.vlan.first == s.vlan.last {
			return netlink.BridgeVlanAdd(at, s.vlan.first, s.vlan.pvid, s.vlan.untagged, s.self, !s.self)
		}
		return netlink.BridgeVlanAddRange(at, s.vlan.first, s.vlan.last, false, s.vlan.untagged, s.self, !s.self)
	}
	return errors.New("no such verb")
}

// create creates a link in our group, down.
func create(s Step) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(s.Link)))
	request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(link.Mark)))
	if s.parent != 0 {
		request.AddData(nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(s.parent))))
	}
	request.AddData(about(unix.IFLA_INFO_KIND, unix.IFLA_INFO_DATA, s.kind, s.options))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// set sets options of a link, or of a port.
func set(s Step) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(s.index)
	request.AddData(message)
	kind, data := unix.IFLA_INFO_KIND, unix.IFLA_INFO_DATA
	if s.port {
		kind, data = nl.IFLA_INFO_SLAVE_KIND, nl.IFLA_INFO_SLAVE_DATA
	}
	request.AddData(about(kind, data, s.kind, s.options))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// about returns the attribute IFLA_LINKINFO.
func about(kindAttribute, dataAttribute int, kind string, options []option) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(kindAttribute, nl.NonZeroTerminated(kind))
	if len(options) > 0 {
		data := info.AddRtAttr(dataAttribute, nil)
		for _, o := range options {
			data.AddRtAttr(int(o.number), o.value)
		}
	}
	return info
}
