package link_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/net/link"
	"resinos/net/link/linktest"
)

func observe(t *testing.T, name string) link.Actual {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := link.Observe("/sys", l.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What a plan wants is there after Apply, so that the next plan is empty, and so is doing it all twice.
func TestApplyReachesThePlan(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	far := linktest.Cable(t, "w0")
	far.Up()
	source := netip.MustParseAddr("10.9.0.50")
	route := func(dst, gateway string) link.Route {
		r := link.Route{Destination: netip.MustParsePrefix(dst), Source: source, Metric: 102}
		if gateway != "" {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		return r
	}
	outside := route("0.0.0.0/0", "192.0.2.1")
	outside.OnLink, outside.MTU = true, 900
	wants := []struct {
		name string
		want link.Wanted
	}{
		{"nothing but up", link.Wanted{Up: true, SkipsDown: true}},
		{"lease", link.Wanted{Up: true, SkipsDown: true, MTU: 1400,
			Addresses: []link.Address{{Prefix: netip.PrefixFrom(source, 24),
				Broadcast: netip.MustParseAddr("10.9.0.255"), Valid: time.Hour}},
			Routes: []link.Route{route("10.9.0.0/24", ""), route("0.0.0.0/0", "10.9.0.1"),
				route("10.77.0.0/16", "10.9.0.2")}}},
		{"renewed, other router outside", link.Wanted{Up: true, SkipsDown: true, MTU: 1500,
			Addresses: []link.Address{{Prefix: netip.PrefixFrom(source, 24),
				Broadcast: netip.MustParseAddr("10.9.0.255"), Valid: 2 * time.Hour}},
			Routes: []link.Route{route("10.9.0.0/24", ""), outside}}},
		{"endless lease of one address", link.Wanted{Up: true, SkipsDown: true,
			Addresses: []link.Address{{Prefix: netip.PrefixFrom(source, 32), Valid: link.Forever}},
			Routes:    []link.Route{outside}}},
		{"both families, tables and tuning", link.Wanted{Up: true, SkipsDown: true, Hardware: "02:00:00:00:00:0A",
			IPv6: []link.Setting{{Name: "accept_ra", Value: "0"}, {Name: "use_tempaddr", Value: "2"}},
			Addresses: []link.Address{
				{Prefix: netip.MustParsePrefix("10.9.0.51/24"), Valid: link.Forever},
				{Prefix: netip.MustParsePrefix("2001:db8::5/64"), Valid: link.Forever, Unchecked: true}},
			Routes: []link.Route{
				{Destination: netip.MustParsePrefix("10.9.0.0/24"), Metric: 102},
				{Destination: netip.MustParsePrefix("10.80.0.0/16"), Gateway: netip.MustParseAddr("10.9.0.1"),
					Metric: 7, Table: 200, MTU: 1300, Tuning: link.Tuning{Window: 2000, AdvMSS: 1000, InitCwnd: 20,
						InitRwnd: 20, QuickACK: 1, MTULock: true}},
				{Destination: netip.MustParsePrefix("10.81.0.0/16"), Gateway: netip.MustParseAddr("10.9.0.1"),
					Metric: 7, TOS: 16},
				{Destination: netip.MustParsePrefix("2001:db8::/64"), Metric: 102},
				{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("2001:db8::1"), Metric: 102},
			}}},
		{"nothing", link.Wanted{Up: true}},
	}
	for _, tt := range wants {
		steps := link.Plan(tt.want, observe(t, "w0"))
		for range 2 {
			if err := link.Apply(steps); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		if rest := link.Plan(tt.want, observe(t, "w0")); len(rest) > 0 {
			t.Errorf("%s: still to do after Apply: %v", tt.name, rest)
		}
	}
	got := observe(t, "w0")
	for _, a := range got.Addresses {
		if !a.Prefix.Addr().IsLinkLocalUnicast() { // the kernel's own
			t.Errorf("left over: %v", a)
		}
	}
	if len(got.Routes) > 0 {
		t.Errorf("left over: %+v", got.Routes)
	}
}

// TestOthersAddressesStay: neither an address that ages nor one that does not is ours because of that. The kernel's
// from a router ages.
func TestOthersAddressesStay(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.Cable(t, "w0").Up()
	l, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	for address, valid := range map[string]int{"10.9.0.7/24": 3600, "10.9.1.7/24": 0} {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		a.ValidLft, a.PreferedLft = valid, valid
		if err := netlink.AddrAdd(l, a); err != nil {
			t.Fatal(err)
		}
	}
	ours := netip.MustParsePrefix("10.9.0.50/24")
	for _, want := range []link.Wanted{
		{Up: true, Addresses: []link.Address{{Prefix: ours, Valid: time.Hour}}},
		{Up: true, Addresses: []link.Address{{Prefix: ours, Valid: link.Forever}}},
		{Up: true},
	} {
		if err := link.Apply(link.Plan(want, observe(t, "w0"))); err != nil {
			t.Fatal(err)
		}
		others := map[netip.Prefix]bool{}
		for _, a := range observe(t, "w0").Addresses {
			switch {
			case a.Prefix.Addr().IsLinkLocalUnicast(): // the kernel's
			case !a.Ours:
				others[a.Prefix] = true
			case a.Prefix != ours, len(want.Addresses) == 0, (a.Valid - want.Addresses[0].Valid).Abs() > time.Minute:
				t.Errorf("wanted %v, found %v", want.Addresses, a)
			}
		}
		if len(others) != 2 {
			t.Errorf("wanted %v: of the others' addresses %v are left", want.Addresses, others)
		}
	}
}

func TestApplyGoesOnAfterARefusal(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.Cable(t, "w0").Up()
	a := observe(t, "w0")
	w := link.Wanted{Up: true, MTU: 1 << 20, Addresses: []link.Address{{Prefix: netip.MustParsePrefix("10.9.0.50/24"),
		Valid: time.Hour}}}
	if err := link.Apply(link.Plan(w, a)); err == nil {
		t.Error("an MTU of a megabyte was accepted")
	}
	if got := linktest.Addresses(t, "w0"); len(got) != 1 {
		t.Errorf("addresses = %q, want the one that came after the refused step", got)
	}
}

func TestObserveMissingLink(t *testing.T) {
	if _, err := link.Observe("/sys", 1<<30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Observe of no link = %v, want %v", err, fs.ErrNotExist)
	}
}
