// Package linktest owns what tests of the network need from the kernel: a process with namespaces of its own, and
// cables to links in further namespaces.
//
// It never touches the host's network: everything happens in the namespaces of Isolate and ends with the process.
//
// Read first: Isolate.
package linktest

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// Isolate runs the calling test again in a child process with its own network, mount and process namespaces, and
// returns true there. In the parent it reports the child's result as that of this test and returns false: the test must
// then return. Without root it skips the test, or fails it if CI is set.
func Isolate(t *testing.T) bool {
	t.Helper()
	if !testenv.Again(t, unix.CLONE_NEWNET|unix.CLONE_NEWNS|unix.CLONE_NEWPID) {
		return false
	}
	settleIn(t)
	return true
}

// settleIn mounts /proc and /sys of the new namespaces.
func settleIn(t *testing.T) {
	t.Helper()
	err := errors.Join(
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
	)
	if err != nil {
		t.Fatalf("settle in namespaces: %v", err)
	}
}

// Far is the other end of a cable, in a namespace of its own.
type Far struct {
	Name  string // of the link at this end
	Index int

	t  *testing.T
	ns netns.NsHandle
	nl *netlink.Handle
}

// Cable connects a new link called near in this namespace with a new link in a new namespace. Both ends are down.
func Cable(t *testing.T, near string) *Far {
	t.Helper()
	f := &Far{Name: "far-" + near, t: t}
	must(t, onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		f.ns, err = netns.GetFromPath("/proc/thread-self/ns/net")
		return err
	}))
	t.Cleanup(func() { f.ns.Close() })
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: near}, PeerName: f.Name, PeerNamespace: netlink.NsFd(int(f.ns)),
	}))
	var err error
	if f.nl, err = netlink.NewHandleAt(f.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.nl.Close)
	f.Index = f.link().Attrs().Index
	return f
}

func (f *Far) link() netlink.Link {
	f.t.Helper()
	l, err := f.nl.LinkByName(f.Name)
	must(f.t, err)
	return l
}

// Up sets the far end up, which gives both ends a carrier.
func (f *Far) Up() { f.t.Helper(); must(f.t, f.nl.LinkSetUp(f.link())) }

// Down takes the carrier from both ends.
func (f *Far) Down() { f.t.Helper(); must(f.t, f.nl.LinkSetDown(f.link())) }

// Address adds an address such as "10.9.0.1/24" to the far end.
func (f *Far) Address(prefix string) {
	f.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	must(f.t, err)
	must(f.t, f.nl.AddrReplace(f.link(), a))
}

// Unaddress removes an address from the far end.
func (f *Far) Unaddress(prefix string) {
	f.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	must(f.t, err)
	must(f.t, f.nl.AddrDel(f.link(), a))
}

// Hardware returns the far end's hardware address as six bytes.
func (f *Far) Hardware() []byte { return f.link().Attrs().HardwareAddr }

// Do runs fn on a thread in the far namespace. Sockets and processes that fn creates stay there.
func (f *Far) Do(fn func() error) {
	f.t.Helper()
	must(f.t, onThread(func() error {
		if err := netns.Set(f.ns); err != nil {
			return err
		}
		return fn()
	}))
}

// Start starts a command in the far namespace. It is killed when the test ends.
func (f *Far) Start(cmd *exec.Cmd) {
	f.t.Helper()
	f.Do(cmd.Start)
	f.t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone already
		cmd.Wait()         // its status is that of a killed process
	})
}

// onThread runs fn on a thread of its own, which ends with it: no other goroutine ever runs in its namespace.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Addresses returns the IPv4 addresses of a link here, as in "10.9.0.50/24".
func Addresses(t *testing.T, name string) []string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	must(t, err)
	var out []string
	for _, a := range list {
		out = append(out, a.IPNet.String())
	}
	return out
}

// Routes returns the IPv4 routes that netd set for a link here, in the words of iproute2 without the link's name.
func Routes(t *testing.T, name string) []string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: unix.RTPROT_DHCP}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	must(t, err)
	var out []string
	for _, r := range list {
		dst := "default"
		if r.Dst != nil {
			prefix, _ := netip.ParsePrefix(r.Dst.String())
			if prefix.Bits() != 0 {
				dst = prefix.String()
			}
		}
		if r.Gw != nil {
			dst += fmt.Sprintf(" via %s", r.Gw)
		}
		if r.Flags&unix.RTNH_F_ONLINK != 0 {
			dst += " onlink"
		}
		out = append(out, dst)
	}
	return out
}
