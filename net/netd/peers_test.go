package netd

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// client is what is measured: start runs it on the near end of a cable, w0, that is not plugged in.
type client struct {
	name  string
	start func(t *testing.T, d *device)
}

// clients are ours and its peers with their own DHCP clients, each with its defaults.
var clients = []client{
	{"netd", func(t *testing.T, d *device) {
		empty(t, d.dir) // on a device its files are in memory, as those of the others are here
		d.start()
	}},
	{"systemd-networkd", func(t *testing.T, d *device) {
		withoutUdev(t)
		empty(t, "/run/systemd", "/etc/systemd/network", "/usr/lib/systemd/network")
		write(t, "/run/systemd/network/w0.network", "[Match]\nName=w0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n",
			0o644) // networkd gives up its rights
		launch(t, exec.Command("/lib/systemd/systemd-networkd"))
	}},
	{"NetworkManager", func(t *testing.T, d *device) {
		withoutUdev(t)
		empty(t, "/run/dbus", "/run/NetworkManager", "/var/lib/NetworkManager", "/etc/NetworkManager")
		write(t, "/etc/NetworkManager/NetworkManager.conf", "[main]\ndhcp=internal\nplugins=keyfile\ndns=none\n"+
			"[device]\nmatch-device=interface-name:w0\nmanaged=1\n", 0o644)
		write(t, "/etc/NetworkManager/system-connections/w0.nmconnection", "[connection]\nid=w0\ntype=ethernet\n"+
			"uuid=0a2bf64f-5d3c-4a2b-9d1f-4f0c3a3b9a01\ninterface-name=w0\n"+
			"[ipv4]\nmethod=auto\n[ipv6]\nmethod=disabled\n", 0o600)
		launch(t, exec.Command("dbus-daemon", "--system", "--nofork"))
		testenv.WaitFor(t, "the bus listens", func() bool {
			_, err := os.Stat("/run/dbus/system_bus_socket")
			return err == nil
		})
		launch(t, exec.Command("NetworkManager", "--debug"))
	}},
}

// TestLinkUpToAddress measures the time from a cable's plugging in to the address on the link: of netd, of
// systemd-networkd and of NetworkManager's own client, in turns on the same kind of cable to the same server. It judges
// nothing; docs/bench.md has the figures.
func TestLinkUpToAddress(t *testing.T) {
	if !testenv.Figures() {
		t.Skip("set RESINOS_BENCH=1: make bench-dhcp")
	}
	testenv.NeedPrograms(t, "dnsmasq", "dbus-daemon", "NetworkManager", "/lib/systemd/systemd-networkd")
	if !linktest.Isolate(t) {
		return
	}
	const rounds = 21
	took := map[string][]float64{} // ms
	for range rounds {
		for _, c := range clients {
			t.Run(c.name, func(t *testing.T) {
				took[c.name] = append(took[c.name], float64(plugIn(t, c).Microseconds())/1000)
			})
		}
	}
	for _, c := range clients {
		if all := took[c.name]; len(all) == rounds {
			slices.Sort(all)
			t.Logf("%-17s %6.1f ms (%.1f-%.1f)", c.name, all[rounds/2], all[0], all[rounds-1])
		}
	}
}

// plugIn starts a client, and plugs the cable in when the client has the link up and waits for a carrier.
func plugIn(t *testing.T, c client) time.Duration {
	d := newDevice(t)
	d.dnsmasq(smallRange)
	d.far.Down()
	t.Cleanup(func() {
		if w0, err := netlink.LinkByName("w0"); err == nil {
			_ = netlink.LinkDel(w0) // the next client has a new one
		}
	})
	c.start(t, d)
	testenv.WaitFor(t, "the client has the link up", func() bool {
		w0, err := netlink.LinkByName("w0")
		return err == nil && w0.Attrs().Flags&net.FlagUp != 0
	})
	updates, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d.far.Up()
	for {
		u := testenv.Receive(t, "an address", updates)
		if u.NewAddr && u.LinkAddress.IP.To4() != nil {
			return time.Since(began)
		}
	}
}

// launch runs a program until the end of the test.
func launch(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var out testenv.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, &out)
		}
	})
}

// withoutUdev has programs take links as they are: with /sys read-only they do not wait for udev.
func withoutUdev(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Mount("", "/sys", "", unix.MS_REMOUNT, "") }) // the next client fails without it
}

// empty covers directories of the host with empty ones that only this mount namespace has.
func empty(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("empty", dir, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // else it ends with the namespace
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
