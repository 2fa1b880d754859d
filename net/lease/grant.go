package lease

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"resinos/services/hostname"
)

// The limits on the numbers in a lease. With a lease of a second we would rewrite addresses and ask again for ever.
const (
	minLength     = 30 * time.Second
	minRenew      = minLength / 2
	defaultLength = time.Hour // for a server that names none, in breach of RFC 2131: it is asked again within the hour
	minMTU        = 576       // every IPv4 host must accept a packet of this size
	maxMTU        = 9216      // the largest jumbo frame in use
)

// Grant reads the lease from an ACK, or the proposed lease from an OFFER, within the limits. Bound stays zero. notes
// lists what the server sent and we do not use. The error says why nothing of it can be used.
func Grant(m *dhcpv4.DHCPv4) (l Lease, notes []string, err error) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	var ok bool
	if l.Server, ok = address(m.Options.Get(dhcpv4.OptionServerIdentifier)); !ok {
		return l, nil, fmt.Errorf("read reply: no usable server identifier")
	}
	if err := l.grantAddress(m, note); err != nil {
		return l, nil, err
	}
	l.grantTimes(m, note)
	l.grantRoutes(m, note)
	l.DNS = addresses(m.Options.Get(dhcpv4.OptionDomainNameServer))
	l.NTP = addresses(m.Options.Get(dhcpv4.OptionNTPServers))
	l.Search = searchList(m.Options.Get(dhcpv4.OptionDNSDomainSearchList))
	l.Domains = domains(m.Options.Get(dhcpv4.OptionDomainName), note)
	l.Hostname = nameOption(m, dhcpv4.OptionHostName, note)
	if raw := m.Options.Get(dhcpv4.OptionInterfaceMTU); raw != nil {
		l.MTU = mtu(raw, note)
	}
	return l, notes, nil
}

func (l *Lease) grantAddress(m *dhcpv4.DHCPv4, note func(string, ...any)) error {
	addr, ok := address(m.YourIPAddr.To4())
	if !ok {
		return fmt.Errorf("read reply: %s is no address for a host", m.YourIPAddr)
	}
	bits, ok := prefixLength(m.Options.Get(dhcpv4.OptionSubnetMask))
	if !ok {
		bits = classLength(addr)
		note("no usable subnet mask, taking /%d", bits)
	}
	l.Address = netip.PrefixFrom(addr, bits)
	if bits > 30 {
		return nil
	}
	l.Broadcast = lastAddress(l.Address)
	if addr == l.Broadcast || addr == l.Address.Masked().Addr() {
		return fmt.Errorf("read reply: %s is the subnet's own address", l.Address)
	}
	// Option 28 can only repeat what the mask says; anything else is a mistake or an attack.
	if b, ok := address(m.Options.Get(dhcpv4.OptionBroadcastAddress)); ok && b != l.Broadcast {
		note("broadcast address %s is not that of %s", b, l.Address)
	}
	return nil
}

func (l *Lease) grantTimes(m *dhcpv4.DHCPv4, note func(string, ...any)) {
	length, ok := seconds(m.Options.Get(dhcpv4.OptionIPAddressLeaseTime))
	if !ok {
		length = defaultLength
		note("no lease time, taking %s", length)
	}
	if length < minLength {
		note("lease time %s raised to %s", length, minLength)
		length = minLength
	}
	l.Length, l.Renew, l.Rebind = length, length/2, length/8*7
	t1, ok1 := seconds(m.Options.Get(dhcpv4.OptionRenewTimeValue))
	t2, ok2 := seconds(m.Options.Get(dhcpv4.OptionRebindingTimeValue))
	if !ok1 && !ok2 {
		return
	}
	if !ok1 {
		t1 = min(l.Renew, t2/8*5)
	}
	if !ok2 {
		t2 = max(l.Rebind, t1)
	}
	if t1 < minRenew {
		note("renewal time %s raised to %s", t1, minRenew)
		t1, t2 = minRenew, max(t2, minRenew)
	}
	if t1 > t2 || t2 > length {
		note("renewal times %s and %s do not fit a lease of %s", t1, t2, length)
		return
	}
	l.Renew, l.Rebind = t1, t2
}

func (l *Lease) grantRoutes(m *dhcpv4.DHCPv4, note func(string, ...any)) {
	l.Routers = addresses(m.Options.Get(dhcpv4.OptionRouter))
	raw := m.Options.Get(dhcpv4.OptionClasslessStaticRoute)
	routes, refused, ok := classlessRoutes(raw)
	if !ok {
		note("classless routes break off")
	}
	if refused > 0 {
		note("%d classless routes refused", refused)
	}
	l.Routes = routes
}

func nameOption(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode, note func(string, ...any)) string {
	name := text(m.Options.Get(code))
	if name != "" && !hostname.Valid(name) {
		note("option %d is no host name", code.Code())
		return ""
	}
	return name
}

// domains reads option 15. RFC 2132 allows one name; many servers send a search list with blanks or commas between the
// names. Each valid name counts.
func domains(raw []byte, note func(string, ...any)) []string {
	var out []string
	refused, between := 0, func(r rune) bool { return strings.ContainsRune(" \t,\x00", r) }
	for _, name := range strings.FieldsFunc(string(raw), between) {
		switch name = text([]byte(name)); {
		case name == "" || containsName(out, name):
		case len(out) == maxDomains || !hostname.Valid(name):
			refused++
		default:
			out = append(out, name)
		}
	}
	if refused > 0 {
		note("%d names of option 15 are no host names, or too many", refused)
	}
	return out
}

func mtu(raw []byte, note func(string, ...any)) int {
	n := 0
	if len(raw) == 2 {
		n = int(raw[0])<<8 | int(raw[1])
	}
	if n < minMTU || n > maxMTU {
		note("mtu %d ignored", n)
		return 0
	}
	return n
}

// lastAddress returns the address of p whose host bits are all one.
func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}
