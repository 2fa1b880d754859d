package netd

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/lease"
	"resinos/net/link/linktest"
)

const otherRange = "--dhcp-range=10.9.0.150,10.9.0.190,255.255.255.0,1h"

// has reports whether w0 has exactly these addresses.
func has(t *testing.T, want ...string) func() bool {
	return func() bool { return slices.Equal(linktest.Addresses(t, "w0"), want) }
}

func TestServerComesLate(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.start()
	d.eventually("three attempts", func() bool {
		return strings.Count(d.log.String(), "message=DISCOVER") >= 3
	})
	d.dnsmasq(smallRange)
	d.lease()
}

// The server dies and comes back between renewals, without its memory of us.
func TestRenewal(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	args := []string{"--dhcp-range=10.9.0.50,10.9.0.90,255.255.255.0,2m", "--dhcp-option=option:T1,15s",
		"--dhcp-option=option:T2,20s"}
	server := d.dnsmasq(args...)
	d.start()
	first := d.lease()
	if first.Renew != 15*time.Second || first.Rebind != 20*time.Second {
		t.Fatalf("renewal after %s and %s, want 15s and 20s", first.Renew, first.Rebind)
	}
	steps := strings.Count(d.log.String(), "put route")
	if second := d.lease(); second.Address != first.Address || second.Bound < first.Bound+14*time.Second {
		t.Errorf("renewed lease = %s from %s, want %s after %s", second.Address, second.Bound, first.Address,
			first.Bound)
	}
	if !strings.Contains(d.log.String(), "message=REQUEST to=10.9.0.1") {
		t.Error("not renewed by unicast")
	}
	server.Process.Kill()
	server.Wait()
	if err := os.Remove(filepath.Join(d.dir, "dnsmasq.leases")); err != nil {
		t.Fatal(err)
	}
	d.eventually("a renewal that nobody answers", func() bool {
		return strings.Count(d.log.String(), "message=REQUEST to=10.9.0.1") == 2
	})
	d.dnsmasq(args...)
	if third := d.lease(); third.Address != first.Address {
		t.Errorf("lease after the server's return = %s, want %s", third.Address, first.Address)
	}
	if !strings.Contains(d.log.String(), "state=rebinding") {
		t.Error("not asked by broadcast when the server did not answer")
	}
	if again := strings.Count(d.log.String(), "put route"); again != steps {
		t.Errorf("routes were set %d times more by renewals", again-steps)
	}
}

func TestTwoServers(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange)
	d.far.Address("10.9.0.2/24")
	d.impostor(func(w *wire, m request) {
		if m.MessageType() == typeDiscover {
			w.reply(m, typeOffer, "10.9.0.2", nil)
		}
		if m.MessageType() == typeRequest && m.ServerIdentifier().String() == "10.9.0.2" {
			w.reply(m, typeAck, "10.9.0.2", nil)
		}
		if m.MessageType() == typeRequest && m.ServerIdentifier().String() != "10.9.0.2" {
			w.reply(m, typeNak, "10.9.0.2", nil) // it should say nothing, but some do
		}
	})
	d.start()
	l := d.lease()
	d.eventually("one address", has(t, l.Address.String()))
	testenv.Never(t, 200*time.Millisecond, "the other server's refusal costs the lease",
		func() bool { return strings.Contains(d.log.String(), "lease dropped") })
}

// A server that lost its database for another network refuses what it does not know; we move to what it offers.
func TestRefusedAfterTheServerChanged(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	server := d.dnsmasq(smallRange)
	d.start()
	first := d.lease()
	server.Process.Kill()
	server.Wait()
	if err := os.Remove(filepath.Join(d.dir, "dnsmasq.leases")); err != nil {
		t.Fatal(err)
	}
	d.dnsmasq(otherRange)
	d.far.Down()
	d.eventually("carrier loss", func() bool { return strings.Contains(d.log.String(), "carrier lost") })
	d.far.Up()
	second := d.lease()
	if !netip.MustParsePrefix("10.9.0.128/25").Contains(second.Address.Addr()) {
		t.Errorf("lease = %s, want one of the new range; was %s", second.Address, first.Address)
	}
	d.eventually("new address alone", has(t, second.Address.String()))
	if !strings.Contains(d.log.String(), "refused by the server") {
		t.Error("the refusal is not in the log")
	}
}

func TestClasslessRoutes(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=121,10.77.0.0/16,10.9.0.2,0.0.0.0/0,10.9.0.3", "--dhcp-option=3,10.9.0.1")
	d.start()
	d.lease()
	want := []string{"default via 10.9.0.3", "10.9.0.0/24", "10.77.0.0/16 via 10.9.0.2"}
	if got := linktest.Routes(t, "w0"); !slices.Equal(got, want) {
		t.Errorf("routes = %q, want %q", got, want)
	}
}

func TestRouterOutsideTheSubnet(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=3,192.0.2.1")
	d.start()
	d.lease()
	want := []string{"default via 192.0.2.1 onlink", "10.9.0.0/24"}
	if got := linktest.Routes(t, "w0"); !slices.Equal(got, want) {
		t.Errorf("routes = %q, want %q", got, want)
	}
}

func TestCarrierLoss(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=6,10.9.0.1")
	d.start()
	first := d.lease()

	d.far.Down() // shorter than the hold: nothing changes
	d.eventually("carrier loss", func() bool { return strings.Contains(d.log.String(), "carrier lost") })
	if !has(t, first.Address.String())() {
		t.Error("the address went with the carrier at once")
	}
	d.far.Up()
	if again := d.lease(); again.Address != first.Address {
		t.Errorf("after a short loss: %s, want %s", again.Address, first.Address)
	}
	if strings.Contains(d.log.String(), "lease dropped") {
		t.Error("a short loss dropped the lease")
	}

	d.far.Down()
	d.eventually("no address after the hold", has(t))
	d.eventually("no name server", func() bool { return !strings.Contains(d.resolv(), "nameserver") })
	d.far.Up()
	if again := d.lease(); again.Address != first.Address {
		t.Errorf("after a long loss: %s, want %s", again.Address, first.Address)
	}
	if got := strings.Count(d.log.String(), "state=selecting"); got != 1 {
		t.Errorf("%d searches, want one: the lease was remembered", got)
	}
}

// Someone takes our address away, puts one of his own beside it, takes the link down and up.
func TestPutRightAgain(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange)
	d.start()
	l := d.lease()
	near, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := netlink.ParseAddr(l.Address.String())
	his, _ := netlink.ParseAddr("192.168.7.1/24")
	if err := netlink.AddrAdd(near, his); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrDel(near, ours); err != nil {
		t.Fatal(err)
	}
	both := func() bool {
		got := linktest.Addresses(t, "w0")
		return len(got) == 2 && slices.Contains(got, l.Address.String()) && slices.Contains(got, "192.168.7.1/24") &&
			len(linktest.Routes(t, "w0")) == 2
	}
	d.eventually("our address back beside his", both)
	if err := netlink.LinkSetDown(near); err != nil {
		t.Fatal(err)
	}
	d.eventually("link up again with routes", both)
}

func TestLinkGoesAndComes(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.start()
	d.eventually("link claimed", func() bool { return strings.Contains(d.log.String(), "message=DISCOVER") })
	near, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(near); err != nil {
		t.Fatal(err)
	}
	d.eventually("link released", func() bool { return strings.Contains(d.log.String(), "link gone") })
	d.far = linktest.Cable(t, "w0")
	d.far.Address("10.9.0.1/24")
	d.far.Up()
	d.dnsmasq(smallRange)
	d.lease()
}

// A link that no profile claims is left alone.
func TestOtherLinksAreLeftAlone(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	linktest.Cable(t, "veth1").Up()
	d.dnsmasq(smallRange)
	d.start()
	d.lease()
	if other, err := netlink.LinkByName("veth1"); err != nil || other.Attrs().Flags != 0 &&
		other.Attrs().RawFlags&1 != 0 {
		t.Errorf("veth1 was set up, %v", err)
	}
	if lo, err := netlink.LinkByName("lo"); err != nil || lo.Attrs().RawFlags&1 == 0 {
		t.Errorf("lo is not up, %v", err)
	}
}

// The directory cannot be written, and the file is not a lease: the link gets its address all the same.
func TestLeaseDirectorySpoiled(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	dir := d.config().LeaseDir
	// a directory in place of the file
	if err := os.MkdirAll(filepath.Join(lease.Path(dir, "w0"), "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d.config().ResolvPath, 0o755); err != nil {
		t.Fatal(err)
	}
	d.dnsmasq(smallRange)
	d.start()
	l := d.lease()
	d.eventually("address", has(t, l.Address.String()))
	for _, want := range []string{"lease not saved", "resolv.conf not written"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("log does not say %q", want)
		}
	}
}
