package assignment

import (
	"fmt"
	"strings"
	"testing"

	"resinos/net/link"
	"resinos/net/resolv"
)

var card0 = link.Link{Index: 2, Name: "eth0", Kind: link.Wired, Hardware: "02:00:00:00:00:0a",
	Burnt: "52:54:00:12:34:56"}

// How the DHCP client presents itself because of each key.
func TestIdentity(t *testing.T) {
	for keys, want := range map[string]string{
		"":                                                   "",
		"dhcp-client-id=mac\n":                               "",
		"dhcp-client-id=none\n":                              "none=true",
		"dhcp-client-id=perm-mac\n":                          "id=01525400123456",
		"dhcp-client-id=01:2:ff\n":                           "id=0102ff",
		"dhcp-client-id=office\n":                            "id=006f6666696365",
		"dhcp-client-id=duid\ndhcp-iaid=258\n":               "id=ff0000010200030001525400123456",
		"dhcp-client-id=duid\ndhcp-iaid=mac\n":               "id=ff0000000a00030001525400123456",
		"dhcp-vendor-class-identifier=a b\n":                 "vendor=a b",
		"dhcp-fqdn=dev.example.com\n":                        "fqdn=dev.example.com 5",
		"dhcp-fqdn=dev.example.com\ndhcp-hostname-flags=4\n": "fqdn=dev.example.com 8",
		"dhcp-reject-servers=192.0.2.1;10.0.0.0/8\n":         "refused=[192.0.2.1/32 10.0.0.0/8]",
		"dad-timeout=0\n":                                    "unchecked=true",
	} {
		e := entry(t, "x", "[ipv4]\nmethod=auto\n"+keys)
		i := Identity(&e.Profile, card0)
		got := ""
		add := func(there bool, format string, args ...any) {
			if there {
				got = strings.TrimSpace(got + " " + fmt.Sprintf(format, args...))
			}
		}
		add(i.ClientID != nil, "id=%x", i.ClientID)
		add(i.Anonymous, "none=true")
		add(len(i.Vendor) > 0, "vendor=%s", i.Vendor)
		add(i.FQDN != "", "fqdn=%s %d", i.FQDN, i.FQDNFlags)
		add(i.Refused != nil, "refused=%v", i.Refused)
		add(i.Unchecked, "unchecked=true")
		if got != want {
			t.Errorf("%q: %s, want %s", keys, got, want)
		}
	}
	a, b := entry(t, "a", "uuid=27afa607-ee36-43f0-b8c3-9d245cdc4bb3\n[ipv4]\nmethod=auto\ndhcp-client-id=stable\n"),
		entry(t, "b", "[ipv4]\nmethod=auto\ndhcp-client-id=stable\n")
	one, two := Identity(&a.Profile, card0).ClientID, Identity(&b.Profile, card0).ClientID
	if len(one) != 9 || string(one) == string(two) || string(one) != string(Identity(&a.Profile, card0).ClientID) {
		t.Errorf("stable identifiers %x, %x", one, two)
	}
}

// The settings of a card that each key asks for.
func TestCard(t *testing.T) {
	for keys, want := range map[string]string{
		"[ethernet]\n":                    "",
		"[ethernet]\nwake-on-lan=1\n":     "",
		"[ethernet]\nwake-on-lan=32768\n": "",
		"[ethernet]\nwake-on-lan=0\n":     "set wake-on-lan 0x0",
		"[ethernet]\nwake-on-lan=64\n":    "set wake-on-lan 0x20",
		"[ethernet]\nwake-on-lan=72\nwake-on-lan-password=01:02:03:04:05:06\n": "set wake-on-lan 0x44",
		"[ethernet]\nauto-negotiate=true\n":                                    "negotiate speed and duplex",
		"[ethernet]\nspeed=100\nduplex=full\n":                                 "set speed 100, duplex full",
		"[ethernet]\nspeed=100\n":                                              "",
		"[ethernet]\naccept-all-mac-addresses=1\n":                             "set accept-all-mac-addresses true",
		"[ipv6]\nmethod=auto\naddr-gen-mode=eui64\ntoken=::7\n":                "set token ::7",
	} {
		e := entry(t, "x", keys)
		if got := strings.Join(For(e.Profile, card0, 102, "").Card.Steps(), ", "); got != want {
			t.Errorf("%q: %s, want %s", keys, got, want)
		}
	}
}

// A mask keeps bits of the device's own address, or of one that it names.
func TestMask(t *testing.T) {
	for mask, want := range map[string]string{
		"":                                    "......",
		"FF:FF:FF:00:00:00":                   "52:54:00",
		"FF:FF:FF:00:00:00 68:F7:28:00:00:00": "68:f7:28",
		"02:00:00:00:00:00 00:00:00:00:00:00": "", // a globally unique address
	} {
		e := entry(t, "x", "[ethernet]\ncloned-mac-address=stable\ngenerate-mac-address-mask="+mask+"\n")
		got := For(e.Profile, card0, 102, "").Wanted.Hardware
		first := bytesOf(got)[0]
		global := strings.HasPrefix(mask, "02")
		if want != "......" && !strings.HasPrefix(got, want) || first&1 != 0 || global && first&2 != 0 {
			t.Errorf("mask %q gives %s", mask, got)
		}
	}
}

// The priority of name servers, and the options of resolvers.
func TestNameServerKeys(t *testing.T) {
	e := entry(t, "x", "[ipv4]\nmethod=auto\ndns-priority=-5\ndns-options=ndots:2;rotate;nonsense;timeout:99\n"+
		"[ipv6]\nmethod=auto\ndns-priority=7\n")
	s := For(e.Profile, card0, 102, "")
	if got := fmt.Sprint(s.DNSPriority, s.Options, s.Notes); got != "-5 [ndots:2 rotate] "+
		`[dns-options: resolvers have no option "nonsense" dns-options: resolvers have no option "timeout:99"]` {
		t.Errorf("got %s", got)
	}
	if one := s.Prioritised(resolv.Source{Metric: 102}); one.Metric != -5 || !one.Alone {
		t.Errorf("the source is %+v", one)
	}
	if one := (Static{}).Prioritised(resolv.Source{Metric: 102}); one.Metric != 102 || one.Alone {
		t.Errorf("the source is %+v", one)
	}
}
