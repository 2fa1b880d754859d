package link

// Kind is the kind of a link, which decides which profile may claim it.
type Kind string

// The kinds of links.
const (
	Loopback Kind = "loopback"
	Member   Kind = "member"  // part of a bridge or bond, which has the addresses
	Virtual  Kind = "virtual" // created by software: veth, bridge, tun, vlan, dummy, wireguard…
	Wifi     Kind = "wifi"
	Modem    Kind = "modem"
	Other    Kind = "other" // hardware other than ethernet: CAN, 802.15.4, InfiniBand…
	Wired    Kind = "wired"
)

// Facts are what netlink and sysfs report about a link, from which its kind follows.
type Facts struct {
	Encap    string // link layer: "ether", "loopback", "none"…
	Type     string // IFLA_INFO_KIND, "device" if the kernel gives none
	Master   int    // index of the bridge or bond it belongs to, or 0
	Device   bool   // /sys/class/net/NAME/device exists: a driver bound to a piece of hardware
	Wireless bool   // /sys/class/net/NAME/phy80211 exists
	DevType  string // DEVTYPE in /sys/class/net/NAME/uevent: "wwan", "wlan", or nothing
}

// kinds is read from the top; the first row that matches names the kind. A container engine creates veth, bridge and
// tun links: all have a type, and none has a device in sysfs, so either fact alone keeps DHCP away from them.
var kinds = [...]struct {
	kind Kind
	fits func(Facts) bool
}{
	{Loopback, func(f Facts) bool { return f.Encap == "loopback" }},
	{Member, func(f Facts) bool { return f.Master != 0 }},
	{Modem, func(f Facts) bool { return f.Type == "ppp" || f.Type == "wwan" }},
	{Virtual, func(f Facts) bool { return f.Type != "device" }},
	{Virtual, func(f Facts) bool { return !f.Device }},
	{Wifi, func(f Facts) bool { return f.Wireless || f.DevType == "wlan" }},
	{Modem, func(f Facts) bool { return f.DevType == "wwan" }},
	{Other, func(f Facts) bool { return f.Encap != "ether" }},
	{Wired, func(f Facts) bool { return true }},
}

// Kind returns the kind that follows from the facts.
func (f Facts) Kind() Kind {
	for _, row := range kinds {
		if row.fits(f) {
			return row.kind
		}
	}
	return Other
}
