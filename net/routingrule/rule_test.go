package routingrule_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/net/link/linktest"
	"resinos/net/routingrule"
)

// Our rules become those that are wanted, and another one's rule stays.
func TestApply(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	foreign := netlink.NewRule()
	foreign.Priority, foreign.Table, foreign.Family = 77, 5, 2
	if err := netlink.RuleAdd(foreign); err != nil {
		t.Fatal(err)
	}
	network := netip.MustParsePrefix
	all := []routingrule.Rule{
		{Priority: 5, From: network("10.0.0.0/8"), Table: 100, SuppressPrefix: -1, Action: routingrule.ToTable},
		{Priority: 6, Not: true, To: network("192.168.1.0/24"), IIF: "eth0", OIF: "eth1", Table: 254,
			SuppressPrefix: -1, Action: routingrule.ToTable},
		{Priority: 7, Mark: 5, Mask: 0xff, TOS: 16, Protocol: 6, SPort: [2]uint16{80, 80}, DPort: [2]uint16{1000, 2000},
			Table: 5, SuppressPrefix: -1, Action: routingrule.ToTable},
		{Priority: 8, HasUIDs: true, UIDs: [2]uint32{1000, 2000}, Table: 7, SuppressPrefix: 0,
			Action: routingrule.ToTable},
		{Priority: 9, From: network("10.1.0.0/16"), SuppressPrefix: -1, Action: routingrule.Blackhole},
		{Six: true, Priority: 10, From: network("2001:db8::/32"), Table: 10, SuppressPrefix: -1,
			Action: routingrule.ToTable},
		{Six: true, Priority: 11, To: network("2001:db8::1/128"), SuppressPrefix: -1, Action: routingrule.Prohibit},
	}
	for _, wanted := range [][]routingrule.Rule{all, all[2:5], all, nil} {
		if done, err := routingrule.Apply(wanted); err != nil || len(done) == 0 {
			t.Errorf("Apply of %d rules = %q, %v", len(wanted), done, err)
		}
		if again, err := routingrule.Apply(wanted); err != nil || len(again) > 0 {
			t.Errorf("Apply of the same %d rules = %q, %v", len(wanted), again, err)
		}
	}
	rules, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: 77}, netlink.RT_FILTER_PRIORITY)
	if err != nil || len(rules) != 1 {
		t.Errorf("rules with priority 77: %v, %v", rules, err)
	}
}
