package netd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/link/linktest"
	"resinos/net/wireguard"
)

// keyed returns a device that reads key files.
func keyed(t *testing.T) *device {
	d := newDevice(t)
	d.keyFiles = t.TempDir()
	return d
}

// put writes a key file as an editor does: beside it, then over it.
func (d *device) put(name, text string) {
	d.t.Helper()
	beside := filepath.Join(d.keyFiles, ".new")
	if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(beside, filepath.Join(d.keyFiles, name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) has(name string, addresses ...string) {
	d.t.Helper()
	d.eventually(name+" with "+strings.Join(addresses, ", "), func() bool {
		if _, err := netlink.LinkByName(name); err != nil {
			return false
		}
		return slices.Equal(linktest.Addresses(d.t, name), addresses)
	})
}

const static = `[connection]
id=office
type=ethernet
interface-name=w0
[ethernet]
mtu=1400
cloned-mac-address=02:00:00:00:00:0A
[ipv4]
method=manual
address1=10.9.0.50/24,10.9.0.1
route1=10.77.0.0/16,10.9.0.2,50
routing-rule1=priority 5 from 10.9.0.0/24 table 254
dns=10.9.0.3;
dns-search=office.example
[ipv6]
method=manual
address1=2001:db8::5/64,2001:db8::1
`

// A key file gives its link addresses, routes, rules, name servers, MTU and hardware address, and nothing else does.
func TestKeyFile(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("office", static)
	d.start()
	d.has("w0", "10.9.0.50/24")
	d.eventually("the routes", func() bool {
		want := []string{"default via 10.9.0.1", "10.9.0.0/24", "10.77.0.0/16 via 10.9.0.2"}
		return slices.Equal(linktest.Routes(t, "w0"), want)
	})
	d.eventually("the name server", func() bool {
		return strings.Contains(d.resolv(), "search office.example\nnameserver 10.9.0.3\n")
	})
	l, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	if a := l.Attrs(); a.MTU != 1400 || a.HardwareAddr.String() != "02:00:00:00:00:0a" {
		t.Errorf("MTU %d, hardware address %s", a.MTU, a.HardwareAddr)
	}
	six, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil || !slices.ContainsFunc(six,
		func(a netlink.Addr) bool { return a.IPNet.String() == "2001:db8::5/64" }) {
		t.Errorf("IPv6 addresses %v, %v", six, err)
	}
	rule := func() bool {
		list, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Priority: 5}, netlink.RT_FILTER_PRIORITY)
		return err == nil && len(list) == 1
	}
	d.eventually("the rule", rule)

	// Taken away, the link is one without a key file again, and the rule is gone.
	if err := os.Remove(filepath.Join(d.keyFiles, "office")); err != nil {
		t.Fatal(err)
	}
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,2m")
	d.has("w0", "10.9.0.60/24")
	d.eventually("no rule", func() bool { return !rule() })
	d.eventually("the MTU of before", func() bool {
		l, err := netlink.LinkByName("w0")
		return err == nil && l.Attrs().MTU == 1500
	})
}

// A change takes effect at once and touches no other link; a file that has become wrong changes nothing and says why.
func TestKeyFileChanges(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	other := strings.NewReplacer("w0", "w1", "10.9.0.50", "10.8.0.50", "10.9.0.", "10.8.0.", "priority 5", "priority 6",
		"2001:db8:", "2001:db9:").Replace(static)
	d.put("office", static)
	d.put("other", other)
	d.start()
	d.has("w0", "10.9.0.50/24")
	d.has("w1", "10.8.0.50/24")

	updates := make(chan netlink.AddrUpdate, 100)
	done := make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	d.put("office", strings.ReplaceAll(static, "10.9.0.50", "10.9.0.51"))
	d.has("w0", "10.9.0.51/24")
	d.put("office", "[connection]\nid=office\ntype=ethernet\ninterface-name=w0\n"+
		"[ipv4]\nmethod=manual\naddress1=10.9.0.999/24\n")
	d.eventually("the reason", func() bool {
		return strings.Contains(d.log.String(), "[ipv4] method: manual needs an address")
	})
	d.put("office", strings.ReplaceAll(static, "10.9.0.50", "10.9.0.52"))
	d.has("w0", "10.9.0.52/24")
	w1, err := netlink.LinkByName("w1")
	if err != nil {
		t.Fatal(err)
	}
	for range len(updates) {
		u := <-updates
		if u.LinkIndex == w1.Attrs().Index && u.LinkAddress.IP.To4() != nil {
			t.Errorf("the other link was touched: %+v", u)
		}
		if !u.NewAddr && u.LinkAddress.IP.String() == "10.9.0.51" &&
			strings.Count(d.log.String(), "needs an address") == 0 {
			t.Errorf("the wrong file cost the address")
		}
	}
}

// A key file adds to a lease, and refuses parts of it.
func TestKeyFileWithLease(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("auto", "[connection]\nid=auto\ntype=ethernet\ninterface-name=w0\n[ipv4]\nmethod=auto\n"+
		"address1=192.168.7.1/24\nnever-default=true\nignore-auto-dns=true\ndns=10.9.0.9\nroute-metric=77\n"+
		"dhcp-hostname=special\nroute1=10.5.0.0/16,10.9.0.7\n")
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,2m", "--dhcp-option=6,10.9.0.2")
	d.start()
	d.lease()
	d.has("w0", "192.168.7.1/24", "10.9.0.60/24")
	d.eventually("the routes", func() bool {
		want := []string{"10.5.0.0/16 via 10.9.0.7", "10.9.0.0/24", "192.168.7.0/24"}
		return slices.Equal(linktest.Routes(t, "w0"), want)
	})
	d.eventually("only the owner's name server", func() bool {
		return strings.Contains(d.resolv(), "nameserver 10.9.0.9\n") && !strings.Contains(d.resolv(), "10.9.0.2")
	})
	text, err := os.ReadFile(filepath.Join(d.dir, "dnsmasq.leases"))
	if err != nil || !strings.Contains(string(text), "special") {
		t.Errorf("the server knows %q, %v", text, err)
	}
}

// Methods of IPv6 that are settings of the kernel.
func TestKeyFileIPv6(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	file := func(method string) string {
		return "[connection]\nid=six\ntype=ethernet\ninterface-name=w0\n" +
			"[ipv4]\nmethod=disabled\n[ipv6]\nmethod=" + method + "\n"
	}
	setting := func(name, want string) {
		t.Helper()
		d.eventually(name+"="+want, func() bool {
			text, err := os.ReadFile("/proc/sys/net/ipv6/conf/w0/" + name)
			return err == nil && strings.TrimSpace(string(text)) == want
		})
	}
	d.put("six", file("disabled"))
	d.start()
	setting("disable_ipv6", "1")
	d.put("six", file("link-local"))
	setting("disable_ipv6", "0")
	setting("accept_ra", "0")
	d.put("six", file("auto"))
	setting("accept_ra", "1")
	if err := unix.Unlink(filepath.Join(d.keyFiles, "six")); err != nil {
		t.Fatal(err)
	}
}

// A bridge is created for its profile, its port joins it, the bridge has the address; without the profile it is gone.
func TestKeyFileBridge(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("br", "[connection]\nid=br\ntype=bridge\ninterface-name=br7\n[bridge]\nstp=false\nageing-time=60\n"+
		"[ipv4]\nmethod=manual\naddress1=10.9.0.70/24,10.9.0.1\n")
	d.put("port", "[connection]\nid=port\ntype=ethernet\ninterface-name=w0\nmaster=br\nslave-type=bridge\n")
	d.start()
	has := func() bool {
		br, err := netlink.LinkByName("br7")
		if err != nil {
			return false
		}
		w0, err := netlink.LinkByName("w0")
		return err == nil && w0.Attrs().MasterIndex == br.Attrs().Index
	}
	d.eventually("the port in the bridge", has)
	d.has("br7", "10.9.0.70/24")
	text, err := os.ReadFile("/sys/class/net/br7/bridge/ageing_time")
	if err != nil || strings.TrimSpace(string(text)) != "6000" {
		t.Errorf("ageing_time %q, %v", text, err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "theirs"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.keyFiles, "port")); err != nil {
		t.Fatal(err)
	}
	d.eventually("the port out of the bridge", func() bool {
		w0, err := netlink.LinkByName("w0")
		return err == nil && w0.Attrs().MasterIndex == 0
	})
	if err := os.Remove(filepath.Join(d.keyFiles, "br")); err != nil {
		t.Fatal(err)
	}
	d.eventually("no bridge", func() bool { _, err := netlink.LinkByName("br7"); return err != nil })
	if _, err := netlink.LinkByName("theirs"); err != nil {
		t.Errorf("another one's bridge is gone: %v", err)
	}
}

// The links of each kind are created for their profiles, get addresses, stay while netd is started again, and go with
// their file. A link of somebody else with the name of one is left alone, which the status says.
func TestKeyFileLinks(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "vlan", "bond", "dummy", "wireguard")
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	linktest.Cable(t, "w2").Up()
	manual := func(n string) string { return "[ipv4]\nmethod=manual\naddress1=10.20." + n + ".1/24\n" }
	d.put("vlan", "[connection]\nid=vlan\ntype=vlan\n[vlan]\nparent=w0\nid=5\n"+manual("1"))
	d.put("bond", "[connection]\nid=bond\ntype=bond\ninterface-name=bond0\n"+
		"[bond]\nmode=active-backup\nprimary=w2\n"+manual("2"))
	for _, port := range []string{"w1", "w2"} {
		d.put(port, "[connection]\nid="+port+"\ntype=ethernet\ninterface-name="+port+
			"\ncontroller=bond\nport-type=bond\n")
	}
	d.put("dummy", "[connection]\nid=dummy\ntype=dummy\ninterface-name=d0\n"+manual("3"))
	d.put("wg", "[connection]\nid=wg\ntype=wireguard\ninterface-name=wg0\n[wireguard]\n"+
		"private-key=YHDNGLbYHXfUBmJVZUn8xfzPKTrGBP4YgJFbLUjXFmQ=\n"+
		"[wireguard-peer.xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=]\nendpoint=10.9.0.1:5000\n"+
		"allowed-ips=0.0.0.0/0;10.30.0.0/16\n"+manual("4"))
	d.put("theirs", "[connection]\nid=theirs\ntype=dummy\ninterface-name=d9\n"+manual("9"))
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d9"}}); err != nil {
		t.Fatal(err)
	}
	d.start()
	all := func() {
		t.Helper()
		d.has("w0.5", "10.20.1.1/24")
		d.has("bond0", "10.20.2.1/24")
		d.has("d0", "10.20.3.1/24")
		d.has("wg0", "10.20.4.1/24")
		d.eventually("the ports and the primary one", func() bool {
			text, err := os.ReadFile("/sys/class/net/bond0/bonding/slaves")
			primary, _ := os.ReadFile("/sys/class/net/bond0/bonding/primary") // empty: not yet
			return err == nil && strings.Contains(string(text), "w1") && strings.Contains(string(text), "w2") &&
				strings.TrimSpace(string(primary)) == "w2"
		})
		d.eventually("the peer", func() bool {
			s, err := wireguard.Observe("wg0")
			return err == nil && len(s.Peers) == 1 && s.Peers[0].Endpoint.IsValid() && s.Mark != 0
		})
		d.eventually("the routes through the tunnel", func() bool {
			routes := linktest.Routes(t, "wg0")
			return slices.Contains(routes, "10.30.0.0/16") && !slices.Contains(routes, "default")
		})
		d.eventually("the rules of the tunnel", func() bool {
			list, err := netlink.RuleList(netlink.FAMILY_V4)
			ours := slices.DeleteFunc(list, func(r netlink.Rule) bool { return r.Protocol != unix.RTPROT_DHCP })
			return err == nil && len(ours) == 2 && ours[0].SuppressPrefixlen == 0 && ours[1].Invert
		})
	}
	all()
	index := func(name string) int {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().Index
	}
	names := []string{"w0.5", "bond0", "d0", "wg0"}
	var before []int
	for _, name := range names {
		before = append(before, index(name))
	}
	if got := linktest.Addresses(t, "d9"); len(got) > 0 {
		t.Errorf("the link of somebody else has %v", got)
	}
	if !strings.Contains(d.log.String(), "somebody else has a link with this name") {
		t.Error("nothing is said about the link of somebody else")
	}
	d.stop()
	d.start()
	all()
	for i, name := range names {
		if now := index(name); now != before[i] {
			t.Errorf("%s was created again", name)
		}
	}
	d0 := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "d0", Index: index("d0")}}
	if err := netlink.LinkDel(d0); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"vlan", "bond", "wg", "theirs"} {
		if err := os.Remove(filepath.Join(d.keyFiles, file)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"w0.5", "bond0", "wg0"} {
		d.eventually("no "+name, func() bool { _, err := netlink.LinkByName(name); return err != nil })
	}
	d.has("d0", "10.20.3.1/24") // somebody removed it; it is wanted still
	if _, err := netlink.LinkByName("d9"); err != nil {
		t.Errorf("the link of somebody else is gone: %v", err)
	}
	if strings.Contains(d.log.String(), "YHDNGLbYHXfUBmJV") {
		t.Error("the log holds the private key")
	}
}

// While the key files cannot be read, the links of an earlier netd stay.
func TestKeyFilesUnreadable(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("br", "[connection]\nid=br\ntype=bridge\ninterface-name=br7\n[ipv4]\nmethod=manual\naddress1=10.9.0.70/24\n")
	d.start()
	d.has("br7", "10.9.0.70/24")
	d.stop()
	whole := d.keyFiles
	d.keyFiles = filepath.Join(whole, "br", "no directory")
	d.start()
	d.eventually("the fault", func() bool { return strings.Contains(d.log.String(), "key files not read") })
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,2m")
	d.has("w0", "10.9.0.60/24") // netd works otherwise
	if got := linktest.Addresses(t, "br7"); !slices.Equal(got, []string{"10.9.0.70/24"}) {
		t.Errorf("the bridge has %v", got)
	}
	d.stop()
	d.keyFiles = whole
	if err := os.Remove(filepath.Join(whole, "br")); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.eventually("no bridge", func() bool { _, err := netlink.LinkByName("br7"); return err != nil })
}
