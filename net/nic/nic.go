// Package nic owns the settings of network cards that profiles ask for: wake-on-LAN, speed and duplex, and whether a
// link receives the frames for others, too. The token of IPv6 addresses is set here as well, because the kernel takes
// it once and reports it only together with much else.
//
// A setting is made once for each link that gets a profile, and left as it is afterwards. Read first: Settings.
package nic

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Settings are what a profile asks for. The zero value asks for nothing.
type Settings struct {
	Wake      *Wake
	Speed     uint32     // Mbit/s; 0: any
	Full      bool       // duplex, if there is a speed
	Negotiate bool       // with the other end: all that the card can do, or only Speed
	Everyone  *bool      // receive the frames for everyone (promiscuous); nil: as it is
	Token     netip.Addr // the second half of addresses that the network announces; not valid: none
}

// Wake is what wakes a computer that is off: bits of WAKE_* (linux/ethtool.h).
type Wake struct {
	On       uint32
	Password []byte // of the magic packet, six bytes; empty: none
}

// The bits of Wake.On, in the order of the kernel.
const (
	WakePhy uint32 = 1 << iota
	WakeUnicast
	WakeMulticast
	WakeBroadcast
	WakeARP
	WakeMagic
	WakeMagicSecure
)

// change is one request to the kernel.
type change struct {
	text string // for people, without the password
	do   func(index int, name string) error
}

// changes returns what to do, in order.
func (s Settings) changes() (list []change) {
	if s.Wake != nil {
		list = append(list, change{fmt.Sprintf("set wake-on-lan 0x%x", s.Wake.On), s.Wake.set})
	}
	if s.Speed != 0 || s.Negotiate {
		list = append(list, change{s.mode(), s.setMode})
	}
	if s.Everyone != nil {
		list = append(list, change{fmt.Sprintf("set accept-all-mac-addresses %t", *s.Everyone), s.setEveryone})
	}
	if s.Token.IsValid() {
		list = append(list, change{"set token " + s.Token.String(), s.setToken})
	}
	return list
}

// Steps returns what Apply does, one line for each change.
func (s Settings) Steps() (lines []string) {
	for _, c := range s.changes() {
		lines = append(lines, c.text)
	}
	return lines
}

// Apply makes the settings of a link. It goes on after a fault: the error joins the faults, one line for each, which
// names what the driver refuses.
func Apply(index int, name string, s Settings) error {
	var faults []error
	for _, c := range s.changes() {
		err := c.do(index, name)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = errors.New("the card or its driver cannot do that")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", name, c.text, err))
		}
	}
	return errors.Join(faults...)
}

func (s Settings) mode() string {
	if s.Speed == 0 {
		return "negotiate speed and duplex"
	}
	duplex := map[bool]string{false: "half", true: "full"}[s.Full]
	if s.Negotiate {
		return fmt.Sprintf("negotiate speed %d, duplex %s", s.Speed, duplex)
	}
	return fmt.Sprintf("set speed %d, duplex %s", s.Speed, duplex)
}

// The messages of linux/ethtool_netlink.h, which the netlink library does not know.
const (
	modesSet, wakeSet = 5, 10

	header, headerName                      = 1, 2
	modesNegotiate, modesSpeed, modesDuplex = 2, 5, 6
	wakeModes, wakePassword                 = 2, 3
	bitsExact, bitsSize, bitsValue          = 1, 2, 4
	wakeBits                                = 8 // how many the kernel knows
)

// ethtool sends a request about a link.
func ethtool(command uint8, name string, attributes ...*nl.RtAttr) error {
	family, err := netlink.GenlFamilyGet("ethtool")
	if err != nil {
		return fmt.Errorf("find ethtool in the kernel: %w", err)
	}
	r := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	r.AddData(&nl.Genlmsg{Command: command, Version: 1})
	about := nl.NewRtAttr(header|unix.NLA_F_NESTED, nil)
	about.AddRtAttr(headerName, nl.ZeroTerminated(name))
	r.AddData(about)
	for _, a := range attributes {
		r.AddData(a)
	}
	_, err = r.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

func (w *Wake) set(_ int, name string) error {
	bits := nl.NewRtAttr(wakeModes|unix.NLA_F_NESTED, nil)
	bits.AddRtAttr(bitsExact, nil)
	bits.AddRtAttr(bitsSize, nl.Uint32Attr(wakeBits))
	bits.AddRtAttr(bitsValue, nl.Uint32Attr(w.On))
	list := []*nl.RtAttr{bits}
	if len(w.Password) > 0 {
		list = append(list, nl.NewRtAttr(wakePassword, w.Password))
	}
	err := ethtool(wakeSet, name, list...)
	if errors.Is(err, unix.EINVAL) { // the kernel's answer for what the card does not offer
		return unix.EOPNOTSUPP
	}
	return err
}

func (s Settings) setMode(_ int, name string) error {
	negotiate := nl.NewRtAttr(modesNegotiate, []byte{0})
	if s.Negotiate {
		negotiate.Data[0] = 1
	}
	list := []*nl.RtAttr{negotiate}
	if s.Speed != 0 {
		duplex := []byte{0}
		if s.Full {
			duplex[0] = 1
		}
		list = append(list, nl.NewRtAttr(modesSpeed, nl.Uint32Attr(s.Speed)), nl.NewRtAttr(modesDuplex, duplex))
	}
	return ethtool(modesSet, name, list...)
}

func (s Settings) setEveryone(index int, name string) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name}}
	if *s.Everyone {
		return netlink.SetPromiscOn(l)
	}
	return netlink.SetPromiscOff(l)
}

// setToken sets IFLA_INET6_TOKEN. The kernel refuses it of a link that takes no router advertisements.
func (s Settings) setToken(index int, _ string) error {
	const token = 7 // IFLA_INET6_TOKEN
	r := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	r.AddData(message)
	families := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	families.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(token, s.Token.AsSlice())
	r.AddData(families)
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	if errors.Is(err, unix.EINVAL) {
		return errors.New("the link takes no router advertisements")
	}
	return err
}
