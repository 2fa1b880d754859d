package linktest

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// NeedKinds ends a test of links of kinds that this kernel has not. The boot story net_own_links runs such tests on a
// device.
func NeedKinds(t *testing.T, kinds ...string) {
	t.Helper()
	base := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "kindbase"}}
	must(t, netlink.LinkAdd(base))
	defer netlink.LinkDel(base)
	for _, kind := range kinds {
		attributes := netlink.LinkAttrs{Name: "kindtest"}
		var l netlink.Link = &netlink.GenericLink{LinkAttrs: attributes, LinkType: kind}
		if kind == "vlan" {
			attributes.ParentIndex = base.Attrs().Index
			l = &netlink.Vlan{LinkAttrs: attributes, VlanId: 5, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		}
		err := netlink.LinkAdd(l)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			testenv.LackingHere(t, "net_own_links", "links of the kind %s in this kernel", kind)
		case err != nil:
			t.Fatalf("create a link of the kind %s: %v", kind, err)
		}
		must(t, netlink.LinkDel(l))
	}
}
