package assignment

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/link"
	"resinos/net/nic"
	"resinos/net/profile"
	"resinos/net/resolv"
)

// The flags of wake-on-lan that mean that the card stays as it is.
const wakeUntouched = 0x8001

// card returns the settings of the network card that a profile asks for.
func card(p profile.Profile) (s nic.Settings) {
	if p.IPv6 != nil && p.IPv6.Method == profile.Auto {
		s.Token, _ = netip.ParseAddr(p.IPv6.Token) // without one, it is not valid
	}
	e := p.Ethernet
	if e == nil {
		return s
	}
	if e.WakeOnLAN&wakeUntouched == 0 {
		s.Wake = &nic.Wake{On: uint32(e.WakeOnLAN >> 1)} // NetworkManager counts from the second bit
		if password, err := net.ParseMAC(e.WakePassword); err == nil {
			s.Wake.On, s.Wake.Password = s.Wake.On&^nic.WakeMagic|nic.WakeMagicSecure, password
		}
	}
	s.Negotiate, s.Speed, s.Full = e.AutoNegotiate, uint32(e.Speed), e.Duplex == "full"
	if e.Promiscuous >= 0 {
		on := e.Promiscuous == 1
		s.Everyone = &on
	}
	return s
}

// invented returns a hardware address for a profile and link, which stays. With seed, which differs in each boot, it is
// another one after each boot. mask is generate-mac-address-mask: the bits that stay as in the address of the device,
// or as in one of the addresses behind the mask.
func invented(seed, id, mask string, l link.Link) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s", seed, id, l.Name)
	sum := h.Sum64()
	b := [6]byte{byte(sum) | 2, byte(sum >> 8), byte(sum >> 16), byte(sum >> 24), byte(sum >> 32), byte(sum >> 40)}
	if words := strings.Fields(mask); len(words) > 0 {
		from := l.Burnt
		if more := words[1:]; len(more) > 0 {
			from = more[sum>>48%uint64(len(more))]
		}
		kept, fixed := bytesOf(words[0]), bytesOf(from)
		for i := range b {
			b[i] = b[i]&^kept[i] | fixed[i]&kept[i]
		}
	}
	b[0] &^= 1 // no group
	return net.HardwareAddr(b[:]).String()
}

// bytesOf reads a hardware address; zeros if there is none.
func bytesOf(text string) (b [6]byte) {
	if mac, ok := keyvalue.Hardware(text); ok {
		parsed, _ := net.ParseMAC(string(mac)) // in the form of net
		copy(b[:], parsed)
	}
	return b
}

// Prioritised returns name servers of the link with the priority that its profile gives them.
func (s Static) Prioritised(one resolv.Source) resolv.Source {
	if s.DNSPriority != 0 {
		one.Metric, one.Alone = s.DNSPriority, s.DNSPriority < 0
	}
	return one
}
