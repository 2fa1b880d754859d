package link

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

func TestKind(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts Facts
		want  Kind
	}{
		{"lo", Facts{Encap: "loopback", Type: "device"}, Loopback},
		{"virtio or PCI card", Facts{Encap: "ether", Type: "device", Device: true}, Wired},
		{"USB adapter", Facts{Encap: "ether", Type: "device", Device: true, DevType: ""}, Wired},
		{"card in a bridge", Facts{Encap: "ether", Type: "device", Device: true, Master: 7}, Member},
		{"container's veth", Facts{Encap: "ether", Type: "veth"}, Virtual},
		{"veth in a bridge", Facts{Encap: "ether", Type: "veth", Master: 7}, Member},
		{"container's bridge", Facts{Encap: "ether", Type: "bridge", DevType: "bridge"}, Virtual},
		{"tap", Facts{Encap: "ether", Type: "tun"}, Virtual},
		{"tun", Facts{Encap: "none", Type: "tun"}, Virtual},
		{"dummy", Facts{Encap: "ether", Type: "dummy"}, Virtual},
		{"vlan on a card", Facts{Encap: "ether", Type: "vlan", DevType: "vlan"}, Virtual},
		{"made by an old driver that names no type", Facts{Encap: "ether", Type: "device"}, Virtual},
		{"wifi", Facts{Encap: "ether", Type: "device", Device: true, Wireless: true, DevType: "wlan"}, Wifi},
		{"LTE stick", Facts{Encap: "ether", Type: "device", Device: true, DevType: "wwan"}, Modem},
		{"raw IP modem", Facts{Encap: "none", Type: "device", Device: true, DevType: "wwan"}, Modem},
		{"CAN", Facts{Encap: "can", Type: "device", Device: true}, Other},
	} {
		if got := tt.facts.Kind(); got != tt.want {
			t.Errorf("%s: Kind(%+v) = %s, want %s", tt.name, tt.facts, got, tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	named := Profile{Name: "eth1", Method: Disabled}
	all := append([]Profile{}, append(Defaults(), named)...)
	for _, tt := range []struct {
		link Link
		want Method
		ok   bool
	}{
		{Link{Name: "eth0", Kind: Wired}, DHCP, true},
		{Link{Name: "eth1", Kind: Wired}, Disabled, true},
		{Link{Name: "eth1", Kind: Member}, "", false},
		{Link{Name: "docker0", Kind: Virtual}, "", false},
		{Link{Name: "lo", Kind: Loopback}, "", false},
		{Link{Name: "wlan0", Kind: Wifi}, Disabled, true},
	} {
		p, ok := Choose(all, tt.link)
		if ok != tt.ok || p.Method != tt.want {
			t.Errorf("Choose(%s, %s) = %s, %t; want %s, %t", tt.link.Name, tt.link.Kind, p.Method, ok, tt.want, tt.ok)
		}
	}
}

func addr(p string, valid time.Duration) Address {
	return Address{Prefix: netip.MustParsePrefix(p), Valid: valid}
}

func route(dst, gateway, source string, metric int) Route {
	r := Route{Destination: netip.MustParsePrefix(dst), Source: netip.MustParseAddr(source), Metric: metric}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

// leased is a link as a lease leaves it.
func leased() (Wanted, Actual) {
	w := Wanted{
		Up: true, SkipsDown: true, MTU: 1500,
		Addresses: []Address{addr("10.0.2.15/24", time.Hour)},
		Routes: []Route{route("10.0.2.0/24", "", "10.0.2.15", 102), route("0.0.0.0/0", "10.0.2.2", "10.0.2.15",
			102)},
	}
	a := Actual{
		Link:      Link{Index: 2, Name: "eth0", Kind: Wired, MTU: 1500, Up: true, Carrier: true},
		Addresses: []Address{w.Addresses[0]}, Routes: append([]Route{}, w.Routes...), SkipsDown: true,
	}
	a.Addresses[0].Ours = true
	return w, a
}

func TestPlan(t *testing.T) {
	var b strings.Builder
	show := func(name string, w Wanted, a Actual) {
		fmt.Fprintf(&b, "# %s\n", name)
		for _, s := range Plan(w, a) {
			fmt.Fprintln(&b, s)
		}
	}
	w, a := leased()
	show("as wanted", w, a)
	show("fresh link gets a lease", w, Actual{Link: Link{Index: 2, Name: "eth0", MTU: 1500}})
	show("link without a lease", Wanted{Up: true, SkipsDown: true}, Actual{Link: Link{Index: 2, Name: "eth0"}})

	w, a = leased()
	a.Addresses[0].Valid = 30 * time.Minute
	show("lease renewed", w, a)

	w, a = leased()
	w.Addresses = []Address{addr("10.0.2.16/24", time.Hour)}
	w.Routes = []Route{route("10.0.2.0/24", "", "10.0.2.16", 102), route("0.0.0.0/0", "10.0.2.2", "10.0.2.16", 102)}
	show("another address in the same subnet", w, a)

	w, a = leased()
	w.Routes[1].Gateway = netip.MustParseAddr("10.0.2.3")
	show("another router", w, a)

	w, a = leased()
	w.Addresses, w.Routes = nil, nil
	show("lease lost", w, a)

	w, a = leased()
	a.Addresses = append(a.Addresses, addr("192.168.7.1/24", Forever))
	show("someone's own address stays", w, a)

	w, a = leased()
	w.Addresses, w.Routes = nil, nil
	a.Addresses = append(a.Addresses, addr("192.168.7.1/24", time.Hour))
	show("lease lost, an address that another lets age stays", w, a)

	w, a = leased()
	a.Addresses[0] = addr("10.0.2.15/24", time.Minute)
	show("the same address is another's, for a minute", w, a)

	w, a = leased()
	w.Addresses[0].Valid = Forever
	show("lease without an end", w, a)

	w, a = leased()
	a.Addresses[0].Valid = Forever
	show("someone made our address permanent", w, a)

	w, a = leased()
	w.MTU = 1400
	w.Routes[1].OnLink, w.Routes[1].MTU = true, 800
	show("odd network", w, a)

	testenv.Golden(t, "plan.golden", b.String())
}

// TestWayOfAddresses: where the kernel makes addresses in another way, IPv6 is off for a moment, because it keeps the
// addresses that it made before. The secret is in no step that people see.
func TestWayOfAddresses(t *testing.T) {
	private := []Setting{{"disable_ipv6", "0"}, {stableSecret, "1:2:3"}, {"addr_gen_mode", "2"}}
	off := []Setting{{"disable_ipv6", "1"}, {"addr_gen_mode", "2"}}
	for _, tt := range []struct {
		name   string
		up     bool
		wanted []Setting
		actual map[string]string
		want   string
	}{
		{"before the link is up", false, private,
			map[string]string{"disable_ipv6": "0", stableSecret: "", "addr_gen_mode": "0"},
			"stable_secret=... addr_gen_mode=2"},
		{"later", true, private, map[string]string{"disable_ipv6": "0", stableSecret: "", "addr_gen_mode": "0"},
			"disable_ipv6=1 stable_secret=... addr_gen_mode=2 disable_ipv6=0"},
		{"as it is", true, private,
			map[string]string{"disable_ipv6": "0", stableSecret: "1:2:3", "addr_gen_mode": "2"}, ""},
		{"off", true, off, map[string]string{"disable_ipv6": "0", "addr_gen_mode": "0"},
			"disable_ipv6=1 addr_gen_mode=2"},
		{"off already", true, off, map[string]string{"disable_ipv6": "1", "addr_gen_mode": "0"}, "addr_gen_mode=2"},
		{"a kernel without it", true, private, map[string]string{}, ""},
	} {
		var got []string
		for _, s := range Plan(Wanted{IPv6: tt.wanted}, Actual{Link: Link{Name: "eth0", Up: tt.up}, IPv6: tt.actual}) {
			got = append(got, strings.TrimPrefix(s.String(), "eth0: set ipv6 "))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
