package profilecheck

import (
	"net/netip"
	"slices"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// complete adds what NetworkManager adds to a valid profile, so that files that mean the same are the same.
func complete(p *profile.Profile) {
	switch t := p.Connection.Type; {
	case p.Ethernet == nil && (t == profile.TypeEthernet || t == profile.TypeBridge || t == profile.TypeVLAN):
		p.Ethernet = profile.NewSection[profile.Ethernet]()
	case p.GSM == nil && t == profile.TypeGSM:
		p.GSM = profile.NewSection[profile.GSM]()
	case p.WireGuard == nil && t == profile.TypeWireGuard:
		p.WireGuard = profile.NewSection[profile.WireGuard]()
	case p.Dummy == nil && t == profile.TypeDummy:
		p.Dummy = &struct{}{}
	}
	if p.Bridge == nil && p.Connection.Type == profile.TypeBridge {
		p.Bridge = profile.NewSection[profile.Bridge]()
	}
	completePort(p)
	if p.Bridge != nil {
		p.Bridge.VLANs = spaced(p.Bridge.VLANs)
	}
	if p.BridgePort != nil {
		p.BridgePort.VLANs = spaced(p.BridgePort.VLANs)
	}
	if p.Connection.PortType == "" {
		completeIP(p)
	}
	p.Connection.UUID = strings.ToLower(p.Connection.UUID)
	completeHardware(p)
	if p.Bond != nil {
		p.Bond.Options["mode"] = keyvalue.BondWords("mode")[p.Bond.Word("mode", 0)]
	}
}

// completeHardware writes addresses in one form, and drops half of a pair of keys.
func completeHardware(p *profile.Profile) {
	if e := p.Ethernet; e != nil {
		capitals(e.MACDenied)
		if e.Speed == 0 || e.Duplex == "" {
			e.Speed, e.Duplex = 0, ""
		}
	}
	w := p.WiFi
	if w == nil {
		return
	}
	capitals(w.MACDenied)
	words := []keyvalue.MAC{"", "permanent", "random"} // of the old key, by its numbers
	if w.ClonedMAC == "" {
		w.ClonedMAC = words[w.Randomization]
	}
	w.Randomization = int64(max(slices.Index(words, w.ClonedMAC), 0))
}

func capitals(list []string) {
	for i, text := range list {
		if a, ok := keyvalue.Hardware(text); ok {
			list[i] = string(a)
		}
	}
}

// completePort adds the section of a port, which has no addresses: those are its controller's.
func completePort(p *profile.Profile) {
	switch p.Connection.PortType {
	case "bridge":
		if p.BridgePort == nil {
			p.BridgePort = profile.NewSection[profile.Port]()
		}
	case "bond":
		if p.BondPort == nil {
			p.BondPort = profile.NewSection[profile.BondPort]()
		}
	default:
		return
	}
	p.IPv4, p.IPv6 = nil, nil
}

// completeIP adds the sections of addresses that are missing.
func completeIP(p *profile.Profile) {
	method := profile.Auto
	if t := p.Connection.Type; t == profile.TypeWireGuard || t == profile.TypeDummy {
		method = profile.Disabled
	}
	if p.IPv4 == nil {
		p.IPv4 = profile.NewSection[profile.IP]()
		p.IPv4.Method = method
	}
	if p.IPv6 == nil {
		p.IPv6 = profile.NewSection[profile.IP]()
		p.IPv6.Method, p.IPv6.AddrGenMode = method, profile.DefaultMode
	}
	if a, err := netip.ParseAddr(p.IPv6.Token); err == nil {
		p.IPv6.Token = a.String()
	}
	for _, ip := range []*profile.IP{p.IPv4, p.IPv6} {
		if ip.Method == profile.Disabled || ip.Method == profile.Ignore {
			ip.MayFail = true
		}
		if ip.NeverDefault {
			ip.Gateway = ""
		}
	}
	if p.IPv4.Method == profile.Shared && len(p.IPv4.Addresses) > 1 {
		p.IPv4.Addresses = p.IPv4.Addresses[:1]
	}
}

// spaced writes a list of vlans in one form.
func spaced(vlans string) string {
	var parts []string
	for part := range strings.SplitSeq(vlans, ",") {
		if words := strings.Fields(part); len(words) > 0 {
			parts = append(parts, strings.Join(words, " "))
		}
	}
	return strings.Join(parts, ",")
}
