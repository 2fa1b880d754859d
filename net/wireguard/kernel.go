package wireguard

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"resinos/net/keyvalue"
	"resinos/net/link"
)

// The messages of linux/wireguard.h, which the netlink library does not know.
const (
	version = 1
	cmdGet  = 0
	cmdSet  = 1

	deviceName, devicePrivate, devicePublic, devicePort, deviceMark, devicePeers = 2, 3, 4, 6, 7, 8

	peerPublic, peerPreshared, peerFlags, peerEndpoint, peerKeepalive = 1, 2, 3, 4, 5
	peerHandshake, peerReceived, peerSent, peerAllowed                = 6, 7, 8, 9
	flagRemove, flagReplaceAllowed                                    = 1, 2
	allowedFamily, allowedAddress, allowedBits                        = 1, 2, 3
)

// request returns a request to the family of wireguard. Its module is loaded with the first link.
func request(command uint8, flags int) (*nl.NetlinkRequest, error) {
	family, err := netlink.GenlFamilyGet("wireguard")
	if err != nil {
		return nil, fmt.Errorf("find wireguard in the kernel: %w", err)
	}
	r := nl.NewNetlinkRequest(int(family.ID), flags)
	r.AddData(&nl.Genlmsg{Command: command, Version: version})
	return r, nil
}

// Observe reads the state of a link. The error wraps fs.ErrNotExist if there is no such link.
func Observe(name string) (State, error) {
	r, err := request(cmdGet, unix.NLM_F_DUMP)
	if err != nil {
		return State{}, err
	}
	r.AddData(nl.NewRtAttr(deviceName, nl.ZeroTerminated(name)))
	messages, err := r.Execute(unix.NETLINK_GENERIC, 0)
	switch {
	case errors.Is(err, unix.ENODEV):
		return State{}, fmt.Errorf("observe %s: %w", name, fs.ErrNotExist)
	case err != nil && !errors.Is(err, netlink.ErrDumpInterrupted):
		return State{}, fmt.Errorf("observe %s: %w", name, err)
	}
	var s State
	for _, m := range messages {
		if err := s.parse(m); err != nil {
			return s, fmt.Errorf("observe %s: %w", name, err)
		}
	}
	return s, nil
}

// parse adds what one message of the kernel says. The networks of a peer may continue in the next message.
func (s *State) parse(m []byte) error {
	if len(m) < nl.SizeofGenlmsg {
		return fmt.Errorf("a message has %d bytes", len(m))
	}
	list, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
	if err != nil {
		return err
	}
	for _, a := range list {
		switch kind := a.Attr.Type & nl.NLA_TYPE_MASK; {
		case kind == devicePrivate:
			copy(s.private[:], a.Value)
		case kind == devicePublic:
			copy(s.Public[:], a.Value)
		case kind == devicePort && len(a.Value) >= 2:
			s.Port = binary.NativeEndian.Uint16(a.Value)
		case kind == deviceMark && len(a.Value) >= 4:
			s.Mark = binary.NativeEndian.Uint32(a.Value)
		case kind == devicePeers:
			peers, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return err
			}
			for _, p := range peers {
				if err := s.parsePeer(p.Value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *State) parsePeer(b []byte) error {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return err
	}
	var p PeerState
	for _, a := range list {
		switch kind := a.Attr.Type & nl.NLA_TYPE_MASK; {
		case kind == peerPublic:
			copy(p.Public[:], a.Value)
		case kind == peerPreshared:
			copy(p.preshared[:], a.Value)
		case kind == peerEndpoint:
			p.Endpoint = parseEndpoint(a.Value)
		case kind == peerKeepalive && len(a.Value) >= 2:
			p.Keepalive = binary.NativeEndian.Uint16(a.Value)
		case kind == peerHandshake && len(a.Value) >= 16:
			seconds, rest := binary.NativeEndian.Uint64(a.Value), binary.NativeEndian.Uint64(a.Value[8:])
			if seconds != 0 {
				p.Handshake = time.Unix(int64(seconds), int64(rest))
			}
		case kind == peerReceived && len(a.Value) >= 8:
			p.Received = binary.NativeEndian.Uint64(a.Value)
		case kind == peerSent && len(a.Value) >= 8:
			p.Sent = binary.NativeEndian.Uint64(a.Value)
		case kind == peerAllowed:
			if p.Allowed, err = parseNetworks(a.Value); err != nil {
				return err
			}
		}
	}
	if i := slices.IndexFunc(s.Peers, func(q PeerState) bool { return q.Public == p.Public }); i >= 0 {
		s.Peers[i].Allowed = append(s.Peers[i].Allowed, p.Allowed...)
		return nil
	}
	s.Peers = append(s.Peers, p)
	return nil
}

func parseNetworks(b []byte) (out []netip.Prefix, err error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		parts, err := nl.ParseRouteAttr(one.Value)
		if err != nil {
			return nil, err
		}
		var a netip.Addr
		bits := 0
		for _, p := range parts {
			switch kind := p.Attr.Type & nl.NLA_TYPE_MASK; {
			case kind == allowedAddress:
				a, _ = netip.AddrFromSlice(p.Value)
			case kind == allowedBits && len(p.Value) > 0:
				bits = int(p.Value[0])
			}
		}
		if n := netip.PrefixFrom(a, bits); n.IsValid() {
			out = append(out, n)
		}
	}
	return out, nil
}

// parseEndpoint reads a struct sockaddr_in or sockaddr_in6.
func parseEndpoint(b []byte) netip.AddrPort {
	if len(b) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port)
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])), port)
	}
	return netip.AddrPort{}
}

func encodeEndpoint(a netip.AddrPort) []byte {
	b := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	if a.Addr().Is6() {
		b = binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
	}
	b = binary.BigEndian.AppendUint16(b, a.Port())
	if a.Addr().Is4() {
		return append(append(b, a.Addr().AsSlice()...), make([]byte, 8)...)
	}
	b = append(b, make([]byte, 4)...) // flow information
	return append(append(b, a.Addr().AsSlice()...), make([]byte, 4)...)
}

// Apply carries one step out. Doing it twice gives the same result.
func Apply(s Step) error {
	r, err := request(cmdSet, unix.NLM_F_ACK)
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	r.AddData(nl.NewRtAttr(deviceName, nl.ZeroTerminated(s.Link)))
	switch {
	case s.private != nil:
		r.AddData(nl.NewRtAttr(devicePrivate, s.private[:]))
	case s.port != nil:
		r.AddData(nl.NewRtAttr(devicePort, nl.Uint16Attr(*s.port)))
	case s.mark != nil:
		r.AddData(nl.NewRtAttr(deviceMark, nl.Uint32Attr(*s.mark)))
	default:
		r.AddData(s.peer())
	}
	if _, err := r.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// peer returns the attribute for one peer.
func (s Step) peer() *nl.RtAttr {
	list := nl.NewRtAttr(devicePeers|unix.NLA_F_NESTED, nil)
	peer := list.AddRtAttr(unix.NLA_F_NESTED, nil)
	peer.AddRtAttr(peerPublic, s.Peer[:])
	if s.remove {
		peer.AddRtAttr(peerFlags, nl.Uint32Attr(flagRemove))
		return list
	}
	if s.replace {
		peer.AddRtAttr(peerFlags, nl.Uint32Attr(flagReplaceAllowed))
	}
	key := preshared(s.wanted.Preshared)
	peer.AddRtAttr(peerPreshared, key[:]) // zeros: none
	peer.AddRtAttr(peerKeepalive, nl.Uint16Attr(s.wanted.Keepalive))
	if s.to.IsValid() {
		peer.AddRtAttr(peerEndpoint, encodeEndpoint(s.to))
	}
	if s.replace {
		networks := peer.AddRtAttr(peerAllowed|unix.NLA_F_NESTED, nil)
		for _, n := range s.wanted.Allowed {
			one := networks.AddRtAttr(unix.NLA_F_NESTED, nil)
			family := uint16(unix.AF_INET)
			if n.Addr().Is6() {
				family = unix.AF_INET6
			}
			one.AddRtAttr(allowedFamily, nl.Uint16Attr(family))
			one.AddRtAttr(allowedAddress, n.Addr().AsSlice())
			one.AddRtAttr(allowedBits, []byte{byte(n.Bits())})
		}
	}
	return list
}

// NewKey returns a new private key with its public one. The kernel computes the public key, on a link that is there for
// this moment only: the library for it would add 140 kB to netd.
func NewKey() (private keyvalue.Secret, public Key, err error) {
	var b [32]byte
	rand.Read(b[:]) // never fails
	name := fmt.Sprintf("key%x", b[16:20])
	rand.Read(b[:])
	private = keyvalue.NewSecret(base64.StdEncoding.EncodeToString(b[:]))
	b = clamped(private)
	private = keyvalue.NewSecret(base64.StdEncoding.EncodeToString(b[:]))
	if err := change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, name); err != nil {
		return private, public, fmt.Errorf("create a wireguard link for the key: %w", err)
	}
	defer change(unix.RTM_DELLINK, 0, name) // one that stays is in our group: netd removes it when it starts
	if err := Apply(Step{Link: name, text: "set private key", private: &b}); err != nil {
		return private, public, err
	}
	state, err := Observe(name)
	return private, state.Public, err
}

// change creates or removes a wireguard link of our group. The netlink library could do it too, and is 130 kB larger.
func change(message, flags int, name string) error {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if message == unix.RTM_NEWLINK {
		r.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(link.Mark)))
		about := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		about.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated("wireguard"))
		r.AddData(about)
	}
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
