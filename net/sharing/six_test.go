package sharing

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/ruleset"
)

// six gives a world's device IPv6: up0 is in 2001:db8:50::/64, where ::2 answers, and sh0 has this address.
func (w *world) six(own string) {
	w.t.Helper()
	w.uplink.Address("2001:db8:50::2/64")
	w.address("up0", "2001:db8:50::1/64")
	w.address("sh0", own)
	w.link.Six = netip.MustParsePrefix(own)
	w.uplink.Do(func() error { return linktest.Serve(w.t, "tcp6", ":98") })
	w.far.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+w.far.Name+"/accept_ra", []byte("1"), 0o644)
	})
	w.router.Set([]Link{w.link})
}

// guest returns the address that the kernel at the far end has made in a network.
func (w *world) guest(network netip.Prefix) (made netip.Addr) {
	w.t.Helper()
	testenv.WaitFor(w.t, "an address of the guest", func() bool {
		w.far.Do(func() error {
			l, err := netlink.LinkByName(w.far.Name)
			if err != nil {
				return err
			}
			list, err := netlink.AddrList(l, netlink.FAMILY_V6)
			for _, a := range list {
				if one, _ := netip.AddrFromSlice(a.IP); network.Contains(one) && a.Flags&0x40 == 0 { // not tentative
					made = one
				}
			}
			return err
		})
		return made.IsValid()
	})
	return made
}

// ask6 returns what the server behind the uplink says to the guest; empty: it is not reached.
func (w *world) ask6() (answer string) {
	w.far.Do(func() error {
		var err error
		if answer, err = linktest.Ask("tcp6", "[2001:db8:50::2]:98", testenv.Patience()); err != nil {
			answer = err.Error()
		}
		return nil
	})
	return answer
}

// TestSix: a guest makes an address from what the device advertises, reaches the world with the device's own address,
// and asks the device for names. The uplink stays a host. radvdump judges the advertisement.
func TestSix(t *testing.T) {
	testenv.NeedPrograms(t, "busybox", "nft", "radvdump")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	heard := exec.Command("radvdump")
	out, err := heard.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.far.Start(heard)
	own := Local("a device", "sh0")
	w.six(own.String())
	w.guest(own.Masked())
	if got := w.ask6(); got != "2001:db8:50::1" {
		t.Errorf("the server saw %q, want the device's address", got)
	}
	w.far.Do(func() error {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp6", netip.AddrPortFrom(own.Addr(), 53).String())
		}}
		got, err := r.LookupHost(t.Context(), "x.localhost.")
		if err != nil || len(got) == 0 {
			t.Errorf("names: %v, %v", got, err)
		}
		return nil
	})
	want := []string{"AdvDefaultLifetime 1800;", "prefix " + own.Masked().String(), "AdvAutonomous on;",
		"RDNSS " + own.Addr().String()}
	for lines := bufio.NewScanner(out); len(want) > 0 && lines.Scan(); {
		if strings.Contains(lines.Text(), want[0]) {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("radvdump did not see %q", want)
	}
	for link, value := range map[string]string{"up0": "0", "sh0": "1", "all": "1"} {
		text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/forwarding")
		if err != nil || strings.TrimSpace(string(text)) != value {
			t.Errorf("forwarding of %s: %q, %v", link, text, err)
		}
	}
	w.link.Six = netip.Prefix{}
	w.router.Set([]Link{w.link})
	testenv.WaitFor(t, "the table to go", func() bool { return !ruleset.There(Plan(nil)[1]) })
}

// TestSixRouted: an address of the world is not replaced; whose it is knows the way back.
func TestSixRouted(t *testing.T) {
	testenv.NeedPrograms(t, "busybox", "nft")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.uplink.Do(func() error {
		return exec.Command("ip", "-6", "route", "add", "2001:db8:7::/64", "via", "2001:db8:50::1",
			"dev", w.uplink.Name, "onlink").Run()
	})
	w.six("2001:db8:7::1/64")
	made := w.guest(netip.MustParsePrefix("2001:db8:7::/64"))
	if got := w.ask6(); got != made.String() {
		t.Errorf("the server saw %q, want the guest's address %s", got, made)
	}
}

// TestLocal: the network of a link is its own, and the same each time.
func TestLocal(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for _, one := range [][2]string{{"a", "eth1"}, {"a", "wlan0"}, {"b", "eth1"}, {"", "eth1"}} {
		p := Local(one[0], one[1])
		if seen[p] || p != Local(one[0], one[1]) || !p.Addr().IsPrivate() || p.Bits() != 64 {
			t.Errorf("Local(%q) = %s", one, p)
		}
		seen[p] = true
	}
	if a, b := Local("a", "x").Addr().As16(), Local("a", "y").Addr().As16(); string(a[:6]) != string(b[:6]) {
		t.Error("links of one device are of two sites")
	}
}
