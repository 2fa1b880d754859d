package netd

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/leasememory"
	"resinos/net/link/linktest"
)

// restart ends netd and leaves nothing of it but what is on the disk, as a reboot does.
func (d *device) restart() {
	d.t.Helper()
	d.stop()
	l, err := netlink.LinkByName("w0")
	if err != nil {
		d.t.Fatal(err)
	}
	addresses, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range addresses {
		if err := netlink.AddrDel(l, &a); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.RemoveAll(d.config().LeaseDir); err != nil {
		d.t.Fatal(err)
	}
	d.log.Clear()
	d.start()
}

// logged reports whether netd has logged a text since it was started.
func (d *device) logged(text string) bool { return d.log.Has(text) }

// remembering returns a device that had a lease of 10.9.0.50 before it was started again, without a server now.
func remembering(t *testing.T) *device {
	d := newDevice(t)
	d.memory = filepath.Join(t.TempDir(), "leases")
	server := d.dnsmasq("--dhcp-range=10.9.0.50,10.9.0.50,255.255.255.0,1h")
	d.start()
	d.lease()
	d.eventually("the file", func() bool { _, err := os.Stat(leasememory.Path(d.memory, "w0")); return err == nil })
	server.Process.Kill()
	server.Wait() // its status is that of a killed process
	return d
}

func TestLeaseOverReboot(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := remembering(t)
	began := time.Now()
	d.restart()
	l := d.lease()
	t.Logf("address after %s, without a server", time.Since(began))
	if got := linktest.Addresses(t, "w0"); !slices.Equal(got, []string{"10.9.0.50/24"}) {
		t.Errorf("addresses %q", got)
	}
	if l.Length < leasememory.MinUse || l.Length > leasememory.MaxUse {
		t.Errorf("used for %s", l.Length)
	}
	if got := linktest.Routes(t, "w0"); !slices.Equal(got, []string{"default via 10.9.0.1", "10.9.0.0/24"}) {
		t.Errorf("routes %q", got)
	}
	// The server comes back and has the last word. Nothing is written, because nothing changed.
	before, _ := os.Stat(leasememory.Path(d.memory, "w0"))
	d.dnsmasq(smallRange)
	l = d.lease()
	if l.Address.String() != "10.9.0.50/24" || l.Length != time.Hour || d.logged("lease dropped") {
		t.Errorf("lease %s of %s", l.Address, l.Length)
	}
	if after, err := os.Stat(leasememory.Path(d.memory, "w0")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written again: %v", err)
	}
}

func TestOtherNetworkAfterReboot(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := remembering(t)
	d.stop()
	d.far.Do(func() error { // another router with the address of the first one
		l, err := netlink.LinkByName(d.far.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 7})
	})
	d.restart()
	d.eventually("the other network is noticed", func() bool { return d.logged("another network") })
	testenv.Never(t, time.Second, "an address of the network before", func() bool {
		return len(linktest.Addresses(t, "w0")) > 0
	})
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,1h")
	if l := d.lease(); l.Address.String() != "10.9.0.60/24" {
		t.Errorf("lease %s", l.Address)
	}
	d.eventually("the new lease is kept", func() bool {
		text, err := os.ReadFile(leasememory.Path(d.memory, "w0"))
		return err == nil && strings.Contains(string(text), `"10.9.0.60/24"`) &&
			strings.Contains(string(text), "02:00:00:00:00:07")
	})
}

// TestTakenAfterReboot: meanwhile another station has got the address, and the server is away.
func TestTakenAfterReboot(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := remembering(t)
	d.far.Address("10.9.0.50/32") // the kernel of the far end answers for it
	d.restart()
	d.eventually("the conflict", func() bool { return d.logged("10.9.0.50 is in use by") })
	d.eventually("no address", func() bool { return len(linktest.Addresses(t, "w0")) == 0 })
}

func TestLeaseMemoryGarbage(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := remembering(t)
	d.stop()
	if err := os.WriteFile(leasememory.Path(d.memory, "w0"), []byte("\x00\x00garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,1h")
	d.restart()
	if l := d.lease(); l.Address.String() != "10.9.0.60/24" {
		t.Errorf("lease %s", l.Address)
	}
	if !strings.Contains(d.log.String(), "lease of an earlier boot not usable") {
		t.Error("the file is not reported")
	}
}

// TestLeaseMemoryUnwritable: a state partition that cannot be written costs a warning.
func TestLeaseMemoryUnwritable(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.memory = filepath.Join(t.TempDir(), "file", "leases")
	if err := os.WriteFile(filepath.Dir(d.memory), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.dnsmasq(smallRange)
	d.start()
	d.lease()
	d.eventually("the warning", func() bool { return d.logged("lease not kept for the next boot") })
}
