// Package profilecheck judges whether a profile can work, as NetworkManager does: Read reads a key file, refuses what
// NetworkManager refuses, and adds what NetworkManager adds by itself.
//
// It is pure. The tests ask NetworkManager's own library about every file of testdata.
//
// Read first: Read.
package profilecheck

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"resinos/net/keyvalue"
	"resinos/net/profile"
)

// Read reads a key file that is called name. What costs NetworkManager the whole file is an error, which names the key;
// what costs it one key is a warning.
func Read(name string, text []byte) (profile.Profile, []profile.Warning, error) {
	p, warnings, err := profile.Parse(name, text)
	if err != nil {
		return profile.Profile{}, nil, err
	}
	if err := check(&p); err != nil {
		return profile.Profile{}, warnings, fmt.Errorf("%s: %w", name, err)
	}
	complete(&p)
	return p, warnings, nil
}

// check judges a profile as NetworkManager verifies a connection. The error names the key that costs the whole file.
func check(p *profile.Profile) error {
	for _, one := range []func(*profile.Profile) error{
		checkConnection, checkPorts, checkEthernet, checkWiFi, checkSecurity, checkEAP, checkGSM, checkVPN,
		checkWireGuard, checkBridge, checkVLAN, checkBond,
	} {
		if err := one(p); err != nil {
			return err
		}
	}
	return errors.Join(checkIP("ipv4", p.IPv4), checkIP("ipv6", p.IPv6))
}

// fault is an error about one key.
func fault(section, key, format string, args ...any) error {
	return fmt.Errorf("[%s] %s: %s", section, key, fmt.Sprintf(format, args...))
}

// oneOf is nil if the value is one of the words or empty.
func oneOf(section, key, value string, words ...string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	return fault(section, key, "none of %s", strings.Join(words, ", "))
}

// knownType reports whether profiles of the type are read, and whether a file may lack the section of the type.
func knownType(t string) (optional, known bool) {
	switch t {
	case profile.TypeEthernet, profile.TypeGSM, profile.TypeBridge, profile.TypeDummy, profile.TypeBond,
		profile.TypeWireGuard:
		return true, true
	case profile.TypeWiFi, profile.TypeVPN, profile.TypeVLAN:
		return false, true
	}
	return false, false
}

func checkConnection(p *profile.Profile) error {
	c := &p.Connection
	const s = "connection"
	if c.ID == "" {
		return fault(s, "id", "is empty")
	}
	if c.UUID != "" && !validUUID(c.UUID) {
		return fault(s, "uuid", "is not a UUID")
	}
	if c.Type == "" {
		if c.Type = soleType(p); c.Type == "" {
			return fault(s, "type", "is missing")
		}
	}
	optional, known := knownType(c.Type)
	switch {
	case !known && profile.Foreign(c.Type):
		return fault(s, "type", "%q is not supported", c.Type)
	case !known:
		return fault(s, "type", "NetworkManager has no such type")
	case !optional && !p.Has(c.Type):
		return fault(s, "type", "the section [%s] is missing", c.Type)
	case c.InterfaceName != "" && !keyvalue.LinkName(c.InterfaceName):
		return fault(s, "interface-name", "is not the name of a link: at most 15 characters, no /, : or white space")
	case c.Type == profile.TypeDummy && c.InterfaceName == "":
		return needsName(p, profile.TypeDummy)
	case c.Metered > 2:
		return fault(s, "metered", "is not 0, 1 or 2")
	case c.MDNS < -1 || c.MDNS > 2:
		return fault(s, "mdns", "is not a number from -1 to 2")
	case c.LLMNR < -1 || c.LLMNR > 2:
		return fault(s, "llmnr", "is not a number from -1 to 2")
	case c.DNSOverTLS < -1 || c.DNSOverTLS > 2:
		return fault(s, "dns-over-tls", "is not a number from -1 to 2")
	case c.MultiConnect < 0 || c.MultiConnect > 3:
		return fault(s, "multi-connect", "is not a number from 0 to 3")
	}
	return nil
}

// soleType returns the type that a file without one has, by its section.
func soleType(p *profile.Profile) string {
	for _, t := range []string{profile.TypeWiFi, profile.TypeGSM, profile.TypeVPN, profile.TypeWireGuard,
		profile.TypeBridge, profile.TypeVLAN, profile.TypeBond, profile.TypeDummy, profile.TypeEthernet} {
		if p.Has(t) {
			return t
		}
	}
	return ""
}

func uuidForm(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || strings.Trim(strings.ToLower(parts[i]), "0123456789abcdef") != "" {
			return false
		}
	}
	return true
}

// validUUID also takes 40 hexadecimal digits, which old versions wrote.
func validUUID(text string) bool {
	return uuidForm(text) || len(text) == 40 && strings.Trim(strings.ToLower(text), "0123456789abcdef-") == ""
}

func checkPorts(p *profile.Profile) error {
	c := &p.Connection
	const s = "connection"
	sections := map[string]bool{"bridge": p.BridgePort != nil, "bond": p.BondPort != nil}
	if err := oneOf(s, "port-type", c.PortType, "bridge", "bond", "team", "ovs-bridge", "ovs-port", "vrf"); err != nil {
		return err
	}
	switch {
	case c.PortType != "" && c.Controller == "":
		return fault(s, "controller", "is missing, although there is a port-type")
	case c.PortType == "" && c.Controller != "":
		for kind, there := range sections {
			if there {
				c.PortType = kind
			}
		}
		if c.PortType == "" {
			return fault(s, "port-type", "is missing, although there is a controller")
		}
	case p.BridgePort != nil && c.PortType != "" && c.PortType != "bridge":
		return fault(s, "port-type", "is not bridge, although there is [bridge-port]")
	case p.BondPort != nil && c.PortType != "" && c.PortType != "bond":
		return fault(s, "port-type", "is not bond, although there is [bond-port]")
	}
	return nil
}

func checkMACs(section string, list []string) error {
	for _, text := range list {
		if _, ok := keyvalue.Hardware(text); !ok {
			return fault(section, "mac-address-denylist", "%v", keyvalue.ErrMAC)
		}
	}
	return nil
}

func checkEthernet(p *profile.Profile) error {
	e := p.Ethernet
	if e == nil {
		return nil
	}
	const s = "ethernet"
	password := e.WakePassword != ""
	_, wakes := keyvalue.Hardware(e.WakePassword)
	switch {
	case e.WakeOnLAN&0x8001 != 0 && e.WakeOnLAN&(e.WakeOnLAN-1) != 0:
		return fault(s, "wake-on-lan", "default and ignore go with nothing else")
	case password && e.WakeOnLAN&0x40 == 0:
		return fault(s, "wake-on-lan-password", "goes with the magic packet only")
	case password && !wakes:
		return fault(s, "wake-on-lan-password", "%v", keyvalue.ErrMAC)
	}
	return errors.Join(
		oneOf(s, "port", e.Port, "tp", "aui", "bnc", "mii"),
		oneOf(s, "duplex", e.Duplex, "half", "full"),
		oneOf(s, "s390-nettype", e.S390Nettype, "qeth", "lcs", "ctc"),
		checkMACs(s, e.MACDenied),
		checkMask(s, e.MACMask))
}

// checkMask judges generate-mac-address-mask: hardware addresses, separated by white space.
func checkMask(section, text string) error {
	for _, one := range strings.Fields(text) {
		if _, ok := keyvalue.Hardware(one); !ok {
			return fault(section, "generate-mac-address-mask", "%v", keyvalue.ErrMAC)
		}
	}
	return nil
}

func checkWiFi(p *profile.Profile) error {
	w := p.WiFi
	if w == nil {
		return nil
	}
	const s = "wifi"
	switch {
	case len(w.SSID) < 1 || len(w.SSID) > 32:
		return fault(s, "ssid", "has %d bytes, it must have 1 to 32", len(w.SSID))
	case w.Channel != 0 && w.Band == "":
		return fault(s, "channel", "needs the band")
	case w.Channel != 0 && !validChannel(w.Channel, w.Band):
		return fault(s, "channel", "is not one of the band")
	case w.Mode == "mesh" && w.Channel == 0:
		return fault(s, "mode", "mesh needs band and channel")
	case w.APIsolation != -1 && w.Mode != "ap":
		return fault(s, "ap-isolation", "goes with the mode ap only")
	case w.Randomization > 2:
		return fault(s, "mac-address-randomization", "is not 0, 1 or 2")
	}
	return errors.Join(
		oneOf(s, "mode", w.Mode, "infrastructure", "adhoc", "ap", "mesh"),
		oneOf(s, "band", w.Band, "a", "bg", "6GHz"),
		checkMACs(s, w.MACDenied),
		checkMask(s, w.MACMask))
}

// validChannel reports whether a channel is one of the band.
func validChannel(n int64, band string) bool {
	if band == "bg" {
		return n >= 1 && n <= 14
	}
	five := []int64{7, 8, 9, 11, 12, 16, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 56, 60, 64, 100, 104, 108, 112, 116,
		120, 124, 128, 132, 136, 140, 144, 149, 152, 153, 157, 160, 161, 165, 183, 184, 185, 187, 188, 192, 196}
	return band == "a" && slices.Contains(five, n) || band == "6GHz" && n >= 1 && n <= 233
}

func checkSecurity(p *profile.Profile) error {
	w := p.Security
	if w == nil {
		return nil
	}
	const s = "wifi-security"
	if w.KeyMgmt == "" {
		return fault(s, "key-mgmt", "is missing")
	}
	words := []string{"none", "ieee8021x", "wpa-psk", "wpa-eap", "wpa-eap-suite-b-192", "sae", "owe"}
	if err := oneOf(s, "key-mgmt", w.KeyMgmt, words...); err != nil {
		return err
	}
	eap := w.KeyMgmt == "ieee8021x" || strings.HasPrefix(w.KeyMgmt, "wpa-eap")
	strict := w.KeyMgmt == "owe" || w.KeyMgmt == "sae" || w.KeyMgmt == "wpa-eap-suite-b-192"
	switch {
	case w.AuthAlg == "leap" && (w.KeyMgmt != "ieee8021x" || w.LEAPUsername == ""):
		return fault(s, "auth-alg", "leap needs key-mgmt=ieee8021x and leap-username")
	case w.AuthAlg != "leap" && eap && p.EAP == nil:
		return fault(s, "key-mgmt", "needs the section [802-1x]")
	case w.AuthAlg == "shared" && w.KeyMgmt != "none":
		return fault(s, "auth-alg", "shared goes with key-mgmt=none only")
	case w.PMF < 0 || w.PMF > 3:
		return fault(s, "pmf", "is not a number from 0 to 3")
	case w.PMF >= 2 && (w.KeyMgmt == "none" || w.KeyMgmt == "ieee8021x"):
		return fault(s, "pmf", "does not go with this key-mgmt")
	case strict && w.PMF != 0 && w.PMF != 3:
		return fault(s, "pmf", "must be 0 or 3 with this key-mgmt")
	case p.WiFi != nil && p.WiFi.Mode == "mesh" && w.KeyMgmt != "none" && w.KeyMgmt != "sae":
		return fault(s, "key-mgmt", "mesh goes with none and sae only")
	}
	if err := oneOf(s, "auth-alg", w.AuthAlg, "open", "shared", "leap"); err != nil {
		return err
	}
	return errors.Join(allOf(s, "proto", w.Proto, "wpa", "rsn"), allOf(s, "pairwise", w.Pairwise, "tkip", "ccmp"),
		allOf(s, "group", w.Group, "wep40", "wep104", "tkip", "ccmp"))
}

// allOf is nil if every value is one of the words.
func allOf(section, key string, values []string, words ...string) error {
	for _, v := range values {
		if !slices.Contains(words, v) {
			return fault(section, key, "none of %s", strings.Join(words, ", "))
		}
	}
	return nil
}

func checkGSM(p *profile.Profile) error {
	g := p.GSM
	if g == nil {
		return nil
	}
	const s = "gsm"
	code := func(text string) bool {
		return text == "" || (len(text) == 5 || len(text) == 6) && strings.Trim(text, "0123456789") == ""
	}
	switch {
	case len(g.APN) > 64 || !apn(g.APN):
		return fault(s, "apn", "has more than 64 characters, or others than letters, digits and . - _")
	case !code(g.NetworkID):
		return fault(s, "network-id", "does not have 5 or 6 digits")
	case !code(g.SIMOperator):
		return fault(s, "sim-operator-id", "does not have 5 or 6 digits")
	}
	return nil
}

func apn(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && !(r >= '0' && r <= '9') && !strings.ContainsRune("._-", r)
	})
}

func checkVPN(p *profile.Profile) error {
	if p.VPN != nil && p.VPN.ServiceType == "" {
		return fault("vpn", "service-type", "is missing")
	}
	return nil
}

func needsName(p *profile.Profile, t string) error {
	if p.Connection.Type == t && p.Connection.InterfaceName == "" {
		return fault("connection", "interface-name", "is missing: the link needs a name to be created")
	}
	return nil
}

func checkWireGuard(p *profile.Profile) error {
	if p.WireGuard == nil {
		return needsName(p, profile.TypeWireGuard)
	}
	for section, ip := range map[string]*profile.IP{"ipv4": p.IPv4, "ipv6": p.IPv6} {
		if ip == nil {
			continue
		}
		methods := []string{profile.Disabled, profile.Manual, profile.LinkLocal, profile.Ignore}
		if err := oneOf(section, "method", ip.Method, methods...); err != nil {
			return err
		}
		if section == "ipv4" && ip.Method == profile.LinkLocal {
			return fault(section, "method", "is not for wireguard")
		}
	}
	return needsName(p, profile.TypeWireGuard)
}

func checkBridge(p *profile.Profile) error {
	b := p.Bridge
	if b == nil {
		return needsName(p, profile.TypeBridge)
	}
	const s = "bridge"
	between := func(key string, n, low, high int64) error {
		if !b.STP && n == 0 || n >= low && n <= high {
			return nil
		}
		return fault(s, key, "is not from %d to %d", low, high)
	}
	hash := b.MulticastHashMax
	if hash&(hash-1) != 0 {
		return fault(s, "multicast-hash-max", "is not a power of two")
	}
	if b.GroupForwardMask&7 != 0 {
		return fault(s, "group-forward-mask", "must not have the bits 0, 1 and 2")
	}
	return errors.Join(
		between("forward-delay", b.ForwardDelay, 2, 30),
		between("hello-time", b.HelloTime, 1, 10),
		between("max-age", b.MaxAge, 6, 40),
		oneOf(s, "vlan-protocol", b.VLANProtocol, "802.1Q", "802.1ad"),
		oneOf(s, "multicast-router", b.MulticastRouter, "auto", "enabled", "disabled"),
		needsName(p, profile.TypeBridge))
}

func checkVLAN(p *profile.Profile) error {
	v := p.VLAN
	if v == nil {
		return nil
	}
	const s = "vlan"
	switch {
	case v.Parent == "" && (p.Ethernet == nil || p.Ethernet.MAC == ""):
		return fault(s, "parent", "is missing")
	case v.Parent != "" && !keyvalue.LinkName(v.Parent) && !uuidForm(v.Parent):
		return fault(s, "parent", "is neither the name of a link nor a UUID")
	case v.ID >= 4095:
		return fault(s, "id", "is not from 0 to 4094")
	}
	return oneOf(s, "protocol", v.Protocol, "802.1Q", "802.1ad")
}

// tokenForm: an address of which the network part is zero.
func validToken(text string) bool {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() || a.Zone() != "" || a.IsUnspecified() {
		return false
	}
	b := a.As16()
	return [8]byte(b[:8]) == [8]byte{} && [8]byte(b[8:]) != [8]byte{}
}

func checkIP(s string, ip *profile.IP) error {
	if ip == nil {
		return nil
	}
	methods := []string{profile.Auto, profile.Manual, profile.LinkLocal, profile.Shared, profile.Disabled}
	if s == "ipv6" {
		methods = append(methods, profile.Ignore, profile.DHCP)
	}
	if ip.Method == "" {
		return fault(s, "method", "is missing")
	}
	if err := oneOf(s, "method", ip.Method, methods...); err != nil {
		return err
	}
	plain := ip.Method == profile.LinkLocal || ip.Method == profile.Disabled || ip.Method == profile.Ignore
	gateway, err := netip.ParseAddr(ip.Gateway)
	switch {
	case ip.Method == profile.Manual && len(ip.Addresses) == 0:
		return fault(s, "method", "manual needs an address")
	case plain && len(ip.Addresses) > 0:
		return fault(s, "addresses", "do not go with method=%s", ip.Method)
	case (plain || s == "ipv4" && ip.Method == profile.Shared) && len(ip.DNS) > 0:
		return fault(s, "dns", "does not go with method=%s", ip.Method)
	case (plain || s == "ipv4" && ip.Method == profile.Shared) && len(ip.Search) > 0:
		return fault(s, "dns-search", "does not go with method=%s", ip.Method)
	case ip.Gateway != "" && len(ip.Addresses) == 0:
		return fault(s, "gateway", "needs an address")
	case ip.Gateway != "" && (err != nil || gateway.Zone() != "" || gateway.Is4() != (s == "ipv4")):
		return fault(s, "gateway", "is not an address of this family")
	case len(ip.Rejected) > 0 && s == "ipv6":
		return fault(s, "dhcp-reject-servers", "is for ipv4 only")
	case ip.HostnameFlag != 0 && !ip.SendHostname:
		return fault(s, "dhcp-hostname-flags", "needs dhcp-send-hostname")
	case ip.FQDN != "" && !strings.Contains(ip.FQDN, "."):
		return fault(s, "dhcp-fqdn", "has no dot")
	case ip.FQDN != "" && ip.DHCPHostname != "":
		return fault(s, "dhcp-fqdn", "does not go with dhcp-hostname")
	case ip.LinkLocal < 0 || ip.LinkLocal > 3:
		return fault(s, "link-local", "is not a number from 0 to 3")
	case s == "ipv6" && (ip.AddrGenMode < 0 || ip.AddrGenMode > 3):
		return fault(s, "addr-gen-mode", "is not a number from 0 to 3")
	case ip.Token != "" && (ip.AddrGenMode != profile.EUI64 || !validToken(ip.Token)):
		return fault(s, "token", "needs addr-gen-mode=eui64, and the first half of it must be zero")
	case ip.PDHint != "" && !validHint(ip.PDHint):
		return fault(s, "dhcp-pd-hint", "is not a prefix of IPv6 such as ::/60 or 2001:db8:1200::/56")
	case ip.IAID != "" && !validIAID(ip.IAID):
		return fault(s, "dhcp-iaid", "is not a number of 32 bits nor mac, perm-mac, ifname or stable")
	case ip.DUID != "" && !validDUID(ip.DUID):
		return fault(s, "dhcp-duid", "is not a DUID")
	}
	return nil
}

func validIAID(text string) bool {
	if slices.Contains([]string{"mac", "perm-mac", "ifname", "stable"}, text) {
		return true
	}
	_, err := keyvalue.Number(text, 0, 1<<32-1)
	return err == nil
}

// validHint reports whether a text is a prefix, of which only the length may count.
func validHint(text string) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && p.Addr().Is6() && p.Bits() > 0
}

func validDUID(text string) bool {
	if slices.Contains([]string{"lease", "llt", "ll", "stable-llt", "stable-ll", "stable-uuid"}, text) {
		return true
	}
	digits := strings.ReplaceAll(text, ":", "")
	return len(digits) >= 4 && len(digits)%2 == 0 && strings.Trim(strings.ToLower(digits), "0123456789abcdef") == ""
}
