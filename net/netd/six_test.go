package netd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/netstate"
)

// radvd starts a real IPv6 router at the far end of a cable.
func radvd(t *testing.T, far *linktest.Far, text string) *exec.Cmd {
	t.Helper()
	path := testenv.NeedProgram(t, "radvd")
	conf := filepath.Join(t.TempDir(), "radvd.conf")
	text = "interface " + far.Name + " { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n" + text + "};\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-n", "-C", conf, "-p", conf+".pid", "-m", "stderr", "-u", "root")
	far.Start(cmd)
	return cmd
}

// six returns the IPv6 addresses of a link here that are not link-local.
func six(t *testing.T, name string) (out []string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, a.IPNet.String())
		}
	}
	return out
}

// routerMetric returns the metric of the default route that a router has given a link; 0: there is none.
func routerMetric(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: unix.RTPROT_RA}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V6, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			return r.Priority
		}
	}
	return 0
}

// TestRouterNames: name servers and domains of a router are used, until it takes them back.
func TestRouterNames(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.start()
	router := radvd(t, d.far, "prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 {}; DNSSL lab.example {};")
	d.eventually("the names", func() bool {
		return strings.Contains(d.resolv(), "search lab.example\nnameserver 2001:db8:1::53\n")
	})
	if got := six(t, "w0"); len(got) != 1 || !strings.HasPrefix(got[0], "2001:db8:1:") {
		t.Errorf("addresses %q", got)
	}
	router.Process.Signal(syscall.SIGTERM)
	d.eventually("no names", func() bool { return !strings.Contains(d.resolv(), "2001:db8:1::53") })
}

// TestNamesAfterRestart: a netd that starts again asks the routers.
func TestNamesAfterRestart(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.start()
	radvd(t, d.far, "MaxRtrAdvInterval 1800; prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 {};")
	there := func() bool { return strings.Contains(d.resolv(), "2001:db8:1::53") }
	d.eventually("the name server", there)
	d.stop()
	if err := os.Remove(filepath.Join(d.dir, "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.eventually("the name server again", there)
}

func TestDHCPv6Addresses(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	states := make(chan netstate.State, 1000)
	d.changed = func(s netstate.State) { states <- s }
	d.far.Address("2001:db8:2::1/64")
	d.start()
	d.dnsmasq(smallRange, "--enable-ra", "--ra-param="+d.far.Name+",3",
		"--dhcp-range=2001:db8:2::100,2001:db8:2::1ff,64,1h",
		"--dhcp-option=option6:dns-server,[2001:db8:2::53]", "--dhcp-option=option6:domain-search,six.example")
	given := ""
	d.eventually("an address", func() bool {
		i := slices.IndexFunc(six(t, "w0"), func(a string) bool { return strings.HasSuffix(a, "/128") })
		if i >= 0 {
			given = six(t, "w0")[i]
		}
		return i >= 0 && strings.HasPrefix(given, "2001:db8:2::1")
	})
	d.eventually("its settings", func() bool {
		return strings.Contains(d.resolv(), "six.example") && strings.Contains(d.resolv(), "nameserver 2001:db8:2::53")
	})
	d.told(states, "others the lease", func(s netstate.State) bool {
		l, _ := s.Named("w0")
		return l.Lease6 != nil && len(l.Lease6.Addresses) == 1 && slices.Equal(l.Lease6.Search, []string{"six.example"})
	})
	// The end of netd takes nothing away, and the next one goes on with the address.
	d.stop()
	if !slices.Contains(six(t, "w0"), given) {
		t.Errorf("addresses after the end of netd: %q", six(t, "w0"))
	}
	d.log.Clear()
	d.start()
	d.eventually("the server confirms it", func() bool { return strings.Contains(d.log.String(), "DHCPv6 settings") })
	if strings.Contains(d.log.String(), "remove address") || !slices.Contains(six(t, "w0"), given) {
		t.Errorf("addresses after the start: %q", six(t, "w0"))
	}
}

func TestDHCPv6Settings(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.far.Address("2001:db8:2::1/64")
	d.start()
	d.dnsmasq(smallRange, "--enable-ra", "--ra-param="+d.far.Name+",3", "--dhcp-range=2001:db8:2::,ra-stateless,64,1h",
		"--dhcp-option=option6:dns-server,[2001:db8:2::53]")
	d.eventually("the name server", func() bool { return strings.Contains(d.resolv(), "nameserver 2001:db8:2::53") })
	d.eventually("the server was asked", func() bool { return strings.Contains(d.log.String(), "state=informed") })
	for _, a := range six(t, "w0") {
		if strings.HasSuffix(a, "/128") {
			t.Errorf("address %s, want none from the server", a)
		}
	}
}

const sixFile = `[connection]
id=six
type=ethernet
interface-name=w0
[ipv4]
method=disabled
[ipv6]
`

func TestIgnoredRouter(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("six", sixFile+"method=auto\nignore-auto-dns=true\nnever-default=true\n")
	d.start()
	radvd(t, d.far, "prefix 2001:db8:1::/64 {}; RDNSS 2001:db8:1::53 {};")
	d.eventually("an address", func() bool { return len(six(t, "w0")) == 1 })
	d.eventually("the router was heard twice", func() bool { return routerMetric(t, "w0") == 0 })
	if strings.Contains(d.resolv(), "2001:db8:1::53") {
		t.Errorf("resolv.conf: %q", d.resolv())
	}
	d.put("six", sixFile+"method=auto\nroute-metric=77\n")
	d.eventually("a default route with the owner's metric", func() bool { return routerMetric(t, "w0") == 77 })
	d.eventually("the name server", func() bool { return strings.Contains(d.resolv(), "2001:db8:1::53") })
}

// TestAddressesMadeAnew: another way to make addresses takes effect at once, and ends with the key file.
func TestAddressesMadeAnew(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.identity = "a device"
	radvd(t, d.far, "prefix 2001:db8:1::/64 {};")
	d.start()
	only := func(ends string, yes bool) func() bool {
		return func() bool {
			list := six(t, "w0")
			return len(list) == 1 && strings.HasSuffix(list[0], ends) == yes
		}
	}
	l, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	h := l.Attrs().HardwareAddr
	eui := fmt.Sprintf("%x:%x/64", 0xfe00+int(h[3]), int(h[4])<<8+int(h[5]))
	d.eventually("an address from the hardware", only(eui, true))
	d.put("six", sixFile+"method=auto\naddr-gen-mode=stable-privacy\n")
	d.eventually("a private one, and no other", only(eui, false))
	if err := os.Remove(filepath.Join(d.keyFiles, "six")); err != nil {
		t.Fatal(err)
	}
	d.eventually("an address from the hardware again", only(eui, true))
}

// TestStablePrivacy: the addresses depend on the device and on the profile, and not on the hardware address.
func TestStablePrivacy(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("six", sixFile+"method=auto\naddr-gen-mode=stable-privacy\n")
	radvd(t, d.far, "prefix 2001:db8:1::/64 {};")
	address := func(identity, other string) (got string) {
		t.Helper()
		d.identity = identity
		d.start()
		d.eventually("an address of "+identity, func() bool {
			for _, a := range six(t, "w0") {
				if a != other {
					got = a
				}
			}
			return got != ""
		})
		d.stop()
		return got
	}
	first := address("one device", "")
	l, _ := netlink.LinkByName("w0")
	eui := l.Attrs().HardwareAddr
	if strings.Contains(first, strings.TrimPrefix(eui[4:].String(), "0")) && strings.Contains(first, "ff:fe") {
		t.Errorf("%s follows from the hardware address %s", first, eui)
	}
	if again := address("one device", ""); again != first {
		t.Errorf("address %s, want %s again", again, first)
	}
	if strings.Contains(d.log.String(), "stable_secret=") && !strings.Contains(d.log.String(), "stable_secret=...") {
		t.Error("the secret is in the log")
	}
	address("another device", first)
}

// TestFailoverOfRouters: the default route of a router gets the worse metric, too, and its own again.
func TestFailoverOfRouters(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d, _ := twoUplinks(t)
	text, err := os.ReadFile(filepath.Join(d.keyFiles, "w0"))
	if err != nil {
		t.Fatal(err)
	}
	d.put("w0", strings.Replace(string(text), "[ipv6]\nmethod=disabled", "[ipv6]\nmethod=auto\nroute-metric=102", 1))
	radvd(t, d.far, "prefix 2001:db8:1::/64 {};")
	d.start()
	d.eventually("the route of the router", func() bool { return routerMetric(t, "w0") == 102 })
	d.far.Unaddress(internet)
	d.wantMetrics("the other link takes over", 20102, 103)
	d.eventually("the route of the router is last", func() bool { return routerMetric(t, "w0") == 20102 })
	d.far.Address(internet)
	d.eventually("the route of the router is as before", func() bool { return routerMetric(t, "w0") == 102 })
}
