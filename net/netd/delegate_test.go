package netd

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/netcontrol"
	"resinos/net/sharing"
)

const sharedSix = "[connection]\nid=%s\ntype=ethernet\ninterface-name=%s\n[ipv4]\nmethod=disabled\n" +
	"[ipv6]\nmethod=shared\n"

// provider is a device whose uplink w0 ends at a router of a provider: radvd announces 2001:db8:50::/64, kea delegates
// prefixes, and ::1 is a server that says who asks it. The guests are at the far ends of w1 and w2.
type provider struct {
	*device
	guests map[string]*linktest.Far
	kea    *exec.Cmd
}

func newProvider(t *testing.T) *provider {
	p := &provider{device: keyed(t), guests: map[string]*linktest.Far{}}
	p.identity = "a device"
	p.memory = t.TempDir()
	p.far.Address("2001:db8:50::1/64")
	if l, err := netlink.LinkByName("w0"); err != nil || netlink.LinkSetUp(l) != nil { // a carrier for the router
		t.Fatal(err)
	}
	p.far.Do(func() error { return linktest.Serve(t, "tcp6", ":98") })
	for _, name := range []string{"w1", "w2"} {
		far := linktest.Cable(t, name)
		far.Up()
		far.Do(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/"+far.Name+"/accept_ra", []byte("1"), 0o644)
		})
		p.guests[name] = far
	}
	router := sharing.New(sharing.Config{})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); router.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	p.changed = router.Follow
	return p
}

// share puts a key file that shares a link.
func (p *provider) share(name string) { p.put("lan-"+name, fmt.Sprintf(sharedSix, "lan-"+name, name)) }

// serve starts Debian's kea, which delegates prefixes of a length out of a pool: "2001:db8:f00::/48 56".
func (p *provider) serve(pool string) {
	p.t.Helper()
	path := testenv.NeedProgram(p.t, "kea-dhcp6")
	from, length, _ := strings.Cut(pool, " ")
	prefix := netip.MustParsePrefix(from)
	conf := filepath.Join(p.dir, "kea.conf")
	text := fmt.Sprintf(`{"Dhcp6": {"interfaces-config": {"interfaces": ["%[1]s"]},
		"data-directory": "%[5]s", "lease-database": {"type": "memfile", "persist": false},
		"renew-timer": 1000, "rebind-timer": 2000, "preferred-lifetime": 3000, "valid-lifetime": 4000,
		"loggers": [{"name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 40,
			"output_options": [{"output": "stdout"}]}],
		"subnet6": [{"subnet": "2001:db8:50::/64", "interface": "%[1]s",
			"pd-pools": [{"prefix": "%[2]s", "prefix-len": %[3]d, "delegated-len": %[4]s}]}]}}`,
		p.far.Name, prefix.Addr(), prefix.Bits(), length, p.dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.eventually("kea can listen", func() bool { return len(p.linkLocal()) > 0 })
	p.kea = exec.Command(path, "-c", conf)
	p.kea.Env = append(os.Environ(), "KEA_LOCKFILE_DIR=none", "KEA_PIDFILE_DIR="+p.dir)
	out := &testenv.Log{}
	p.kea.Stdout, p.kea.Stderr = out, out
	p.far.Start(p.kea)
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("log of kea:\n%s", out)
		}
	})
	p.eventually("kea serves", func() bool { return strings.Contains(out.String(), "DHCP6_STARTED") })
}

// linkLocal returns the link-local addresses of the router that are known to be nobody else's.
func (p *provider) linkLocal() (out []netlink.Addr) {
	p.far.Do(func() error {
		l, err := netlink.LinkByName(p.far.Name)
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				out = append(out, a)
			}
		}
		return err
	})
	return out
}

// end kills kea.
func (p *provider) end() {
	p.t.Helper()
	if err := p.kea.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.kea.Wait() // it was killed
}

// delegated returns the address of the device on a shared link in a network of the world; empty: none.
func (p *provider) delegated(name string) string {
	for _, a := range six(p.t, name) {
		if strings.HasPrefix(a, "2001:") {
			return a
		}
	}
	return ""
}

// guest returns the addresses of a guest: those in a network that are deprecated or not.
func (p *provider) guest(name, network string, deprecated bool) (out []netip.Addr) {
	far := p.guests[name]
	far.Do(func() error {
		l, err := netlink.LinkByName(far.Name)
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(l, netlink.FAMILY_V6)
		for _, a := range list {
			one, _ := netip.AddrFromSlice(a.IP)
			if netip.MustParsePrefix(network).Contains(one) && a.Flags&unix.IFA_F_TENTATIVE == 0 &&
				(a.Flags&unix.IFA_F_DEPRECATED != 0) == deprecated {
				out = append(out, one)
			}
		}
		return err
	})
	return out
}

// ask returns as whom the server of the provider sees a guest.
func (p *provider) ask(name string) (answer string) {
	p.guests[name].Do(func() error {
		var err error
		if answer, err = linktest.Ask("tcp6", "[2001:db8:50::1]:98", testenv.Patience()); err != nil {
			answer = err.Error()
		}
		return nil
	})
	return answer
}

// route has the router of the provider send packets for a prefix to the device.
func (p *provider) route(prefix string) {
	p.t.Helper()
	device := ""
	p.eventually("an address of the device", func() bool {
		for _, a := range six(p.t, "w0") {
			device, _, _ = strings.Cut(a, "/")
		}
		return device != ""
	})
	p.far.Do(func() error {
		return exec.Command("ip", "-6", "route", "replace", prefix, "via", device, "dev", p.far.Name).Run()
	})
}

// unreachable returns the prefixes that the kernel refuses packets for.
func unreachable(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "-6", "route", "show", "type", "unreachable", "proto", "dhcp").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		list = append(list, fields[min(1, len(fields)-1)])
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

const announced = "prefix 2001:db8:50::/64 {};"

// TestDelegation: guests of two shared links get networks of a prefix that kea delegates, and reach the world under
// their own addresses; the rest of the prefix leads nowhere. A restart takes nothing away, a server that is away
// nothing either, and a device that shares nothing any more wants no prefix.
func TestDelegation(t *testing.T) {
	t.Parallel()
	testenv.NeedPrograms(t, "kea-dhcp6", "radvd", "ip")
	if !linktest.Isolate(t) {
		return
	}
	p := newProvider(t)
	p.control = filepath.Join(p.dir, "control")
	p.serve("2001:db8:f00::/48 56")
	radvd(t, p.far, announced)
	p.share("w1")
	p.start()
	p.eventually("a network of the prefix", func() bool { return p.delegated("w1") == "2001:db8:f00::1/64" })
	p.eventually("the rest leads nowhere", func() bool { return unreachable(t) == "2001:db8:f00::/56" })
	p.route("2001:db8:f00::/56")
	p.eventually("an address of the guest", func() bool { return len(p.guest("w1", "2001:db8:f00::/64", false)) == 1 })
	made := p.guest("w1", "2001:db8:f00::/64", false)[0]
	if got := p.ask("w1"); got != made.String() {
		t.Errorf("the server saw %q, want the guest's own address %s", got, made)
	}
	p.eventually("one in the network of the device", func() bool { return len(p.guest("w1", "fd00::/8", false)) == 1 })
	p.share("w2")
	p.eventually("the next network", func() bool { return p.delegated("w2") == "2001:db8:f00:1::1/64" })
	status, err := netcontrol.Client{Socket: p.control}.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, l := range status.Links {
		said[l.Name] = strings.Join(l.Prefixes, ", ")
	}
	for name, want := range map[string]string{"w0": "2001:db8:f00::/56 is delegated to the device",
		"w1": "2001:db8:f00::/64 of the prefix of w0", "w2": "2001:db8:f00:1::/64 of the prefix of w0"} {
		if said[name] != want {
			t.Errorf("%s: %q, want %q", name, said[name], want)
		}
	}
	// The next netd goes on, while the server is away.
	p.stop()
	p.end()
	p.log.Clear()
	p.start()
	p.eventually("the links again", func() bool { return strings.Contains(p.log.String(), "link=w2 kind") })
	if got := p.ask("w1"); got != made.String() {
		t.Errorf("without the server, the guest is seen as %q", got)
	}
	for _, forbidden := range []string{"remove address", "remove route"} {
		if strings.Contains(p.log.String(), forbidden) {
			t.Errorf("a restart does: %s", forbidden)
		}
	}
	// Nobody needs it any more.
	for _, name := range []string{"lan-w1", "lan-w2"} {
		if err := os.Remove(filepath.Join(p.keyFiles, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.eventually("no prefix", func() bool { return unreachable(t) == "" && p.delegated("w1")+p.delegated("w2") == "" })
}

// TestDelegationChanges: the server delegates another prefix, of which one network is left, and then none: guests are
// told not to use the old network, and have that of the device and its own address as source.
func TestDelegationChanges(t *testing.T) {
	t.Parallel()
	testenv.NeedPrograms(t, "kea-dhcp6", "radvd", "ip")
	if !linktest.Isolate(t) {
		return
	}
	p := newProvider(t)
	p.serve("2001:db8:f00::/48 60")
	radvd(t, p.far, announced)
	p.share("w1")
	p.share("w2")
	p.start()
	p.eventually("networks of the prefix", func() bool {
		return p.delegated("w1") == "2001:db8:f00::1/64" && p.delegated("w2") == "2001:db8:f00:1::1/64"
	})
	p.eventually("an address of the guest", func() bool { return len(p.guest("w1", "2001:db8:f00::/64", false)) == 1 })
	p.end()
	p.serve("2001:db8:aa00::/63 64")
	again := func() { // as after a cable that was out for longer than a moment
		p.far.Down()
		p.eventually("no prefix", func() bool { return unreachable(t) == "" })
		p.far.Up()
		p.far.Address("2001:db8:50::1/64") // which went with the link
	}
	again()
	p.eventually("one network of the other prefix", func() bool {
		one, two := p.delegated("w1"), p.delegated("w2")
		return strings.HasPrefix(one, "2001:db8:aa00:") && two == ""
	})
	p.eventually("the old address must not be used", func() bool {
		return len(p.guest("w1", "2001:db8:f00::/64", true)) == 1 && len(p.guest("w1", "2001:db8:f00::/64", false)) == 0
	})
	p.eventually("the new one is used", func() bool { return len(p.guest("w1", "2001:db8:aa00::/63", false)) == 1 })
	p.end()
	again()
	p.eventually("no network of the world", func() bool { return p.delegated("w1") == "" })
	p.eventually("no address of the world", func() bool { return len(p.guest("w1", "2001:db8::/32", false)) == 0 })
	own := ""
	p.eventually("the uplink again", func() bool {
		for _, a := range six(t, "w0") {
			own, _, _ = strings.Cut(a, "/")
		}
		return own != "" && routerMetric(t, "w0") != 0
	})
	p.eventually("the device's address as source", func() bool { return p.ask("w1") == own })
}

// TestDelegationAfterBoot: the next boot asks for the prefix that it had, which a server without a memory gives it
// again. Until then guests are told not to use their old addresses.
func TestDelegationAfterBoot(t *testing.T) {
	t.Parallel()
	testenv.NeedPrograms(t, "kea-dhcp6", "radvd", "ip")
	if !linktest.Isolate(t) {
		return
	}
	p := newProvider(t)
	text := fmt.Sprintf(`{"uplinks":[{"link":"w0","hardware":"%s","prefixes":[{"prefix":"2001:db8:f00:700::/56"}]}],`+
		`"numbers":{"w1":5}}`, hardwareOf(t, "w0"))
	if err := os.WriteFile(filepath.Join(p.memory, "delegated-prefixes.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const network = "2001:db8:f00:705::/64"
	p.serve("2001:db8:f00::/48 56")
	radvd(t, p.far, announced)
	p.share("w1")
	p.start()
	p.eventually("the network of before", func() bool { return p.delegated("w1") == "2001:db8:f00:705::1/64" })
	p.eventually("an address of the guest", func() bool { return len(p.guest("w1", network, false)) == 1 })
	p.stop()
	p.end()
	if err := os.RemoveAll(p.config().LeaseDir); err != nil { // as a boot does
		t.Fatal(err)
	}
	for _, args := range []string{"address flush dev w1 scope global", "-6 route flush proto dhcp"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %s", args, out)
		}
	}
	p.start()
	p.eventually("the old address must not be used", func() bool { return len(p.guest("w1", network, true)) == 1 })
	p.serve("2001:db8:f00::/48 56")
	p.eventually("the network of before again", func() bool { return p.delegated("w1") == "2001:db8:f00:705::1/64" })
	p.eventually("its address is used again", func() bool { return len(p.guest("w1", network, false)) == 1 })
}

func hardwareOf(t *testing.T, name string) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().HardwareAddr.String()
}
