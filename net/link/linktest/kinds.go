package linktest

import (
	"errors"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deviceVariable is set where a boot story runs a test on a device, whose kernel lacks nothing.
const deviceVariable = "RESINOS_ON_DEVICE"

// NeedKinds ends a test of links of kinds that this kernel has not. The kernel of a device has all of them: there a
// missing one is a failure, and the boot story net_own_links runs such tests there.
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
		case errors.Is(err, unix.EOPNOTSUPP) && os.Getenv(deviceVariable) == "":
			t.Skipf("this kernel has no %s links; the boot story net_own_links runs this test on a device", kind)
		case err != nil:
			t.Fatalf("create a link of the kind %s: %v", kind, err)
		}
		must(t, netlink.LinkDel(l))
	}
}
