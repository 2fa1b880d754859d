package wifi

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// powerSaveOff keeps a radio from sleeping between the beacons of its access point: a device that sleeps answers late,
// and misses what is sent to all.
func powerSaveOff(name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("switch power save of %s off: %w", name, err)
	}
	family, err := netlink.GenlFamilyGet("nl80211")
	if err != nil {
		return fmt.Errorf("switch power save of %s off: %w", name, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: unix.NL80211_CMD_SET_POWER_SAVE})
	req.AddData(nl.NewRtAttr(unix.NL80211_ATTR_IFINDEX, nl.Uint32Attr(uint32(link.Index))))
	req.AddData(nl.NewRtAttr(unix.NL80211_ATTR_PS_STATE, nl.Uint32Attr(unix.NL80211_PS_DISABLED)))
	if _, err := req.Execute(unix.NETLINK_GENERIC, 0); err != nil {
		return fmt.Errorf("switch power save of %s off: %w", name, err)
	}
	return nil
}
