package clientidentity

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Each part of an identity is in the messages, and only the identifier in a DECLINE.
func TestIdentity(t *testing.T) {
	i := Identity{ClientID: []byte{255, 1}, Vendor: []byte("acme"), FQDN: "dev.example", FQDNFlags: FQDNEncoded,
		Refused: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	message := func(i Identity, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
		out := &dhcpv4.DHCPv4{ClientHWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Options: dhcpv4.Options{}}
		out.UpdateOption(dhcpv4.OptMessageType(kind))
		i.Add(out, "device")
		return out
	}
	whole, decline := message(i, dhcpv4.MessageTypeDiscover), message(i, dhcpv4.MessageTypeDecline)
	for code, want := range map[dhcpv4.OptionCode]string{
		dhcpv4.OptionClientIdentifier: "\xff\x01", dhcpv4.OptionClassIdentifier: "acme",
		dhcpv4.OptionFQDN: "\x04\x00\x00\x03dev\x07example\x00", dhcpv4.OptionHostName: "",
	} {
		if got := string(whole.Options.Get(code)); got != want {
			t.Errorf("option %v is %q, want %q", code, got, want)
		}
	}
	if got := string(decline.Options.Get(dhcpv4.OptionClientIdentifier)); got != "\xff\x01" {
		t.Errorf("the identifier of a DECLINE is %q", got)
	}
	if decline.Options.Has(dhcpv4.OptionClassIdentifier) || decline.Options.Has(dhcpv4.OptionFQDN) {
		t.Error("a DECLINE has more options than it may have")
	}
	if !i.Refuses(netip.MustParseAddr("10.1.2.3")) || i.Refuses(netip.MustParseAddr("11.1.2.3")) {
		t.Error("the wrong servers are refused")
	}
	usual := message(Identity{}, dhcpv4.MessageTypeDiscover)
	if got := string(usual.Options.Get(dhcpv4.OptionClientIdentifier)); got != "\x01\x02\x00\x00\x00\x00\x01" {
		t.Errorf("the usual identifier is %q", got)
	}
	if got := string(usual.Options.Get(dhcpv4.OptionHostName)); got != "device" {
		t.Errorf("the host name is %q", got)
	}
	if message(Identity{Anonymous: true}, dhcpv4.MessageTypeDiscover).Options.Has(dhcpv4.OptionClientIdentifier) {
		t.Error("an anonymous client has an identifier")
	}
}
