// Package boottest boots images in QEMU and runs stories about them.
//
// It owns the lab: a private network with a DHCP and a DNS server, the devices on it, and the commands of the stories
// in testdata. It never builds an image itself and leaves no process, link or file behind. Read Lab first, then Device.
//
// Stories are txtar scripts, one behaviour each, named area_behaviour.txt:
//
//	testdata/shared  every board; all share one booted device, which each leaves running as it found it
//	testdata/every   every board; each story boots a device of its own
//	testdata/own     the first board only; each story boots a device of its own
package boottest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// A Lab is a private network namespace with a bridge, where dnsmasq answers DHCP and DNS. The process that opens it
// must already run in namespaces of its own: see Enter.
type Lab struct {
	dir     string
	bridge  netlink.Link
	dnsmasq *exec.Cmd
	talk    *os.File // the output of dnsmasq
}

// The names and addresses of the lab that stories use.
const (
	Gateway      = "10.72.0.1"
	Domain       = "lab.test"
	KnownName    = "known.lab.test" // resolves to KnownAddress
	KnownAddress = "10.72.0.77"
	mostDevices  = 100
)

// enterVariable marks a process that Enter has started.
const enterVariable = "RESINOS_LAB"

// Entered reports whether this process runs in the namespaces that Enter created.
func Entered() bool { return os.Getenv(enterVariable) != "" }

// Enter runs this program again, with the same arguments and some more environment, in a network and a mount namespace
// of its own, and returns its exit status.
func Enter(environment ...string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), enterVariable+"=1"), environment...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("enter namespaces: %w", err)
	}
	return 0, nil
}

// Open creates the network. The caller closes the lab.
func Open(ctx context.Context) (*Lab, error) {
	if !Entered() {
		return nil, errors.New("open lab: this process is in the namespaces of its host")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	dir, err := os.MkdirTemp("", "resinos-lab-")
	if err != nil {
		return nil, fmt.Errorf("create directory for lab: %w", err)
	}
	l := &Lab{dir: dir}
	if err := l.wire(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := l.serve(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// wire sets the loopback and the bridge up.
func (l *Lab) wire() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	l.bridge = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lab0"}}
	if err := netlink.LinkAdd(l.bridge); err != nil {
		return fmt.Errorf("create bridge: %w", err)
	}
	address, err := netlink.ParseAddr(Gateway + "/24")
	if err != nil {
		return fmt.Errorf("parse gateway: %w", err)
	}
	return errors.Join(
		netlink.AddrAdd(l.bridge, address),
		netlink.LinkSetUp(loopback),
		netlink.LinkSetUp(l.bridge),
	)
}

// serve starts dnsmasq.
func (l *Lab) serve(ctx context.Context) error {
	var err error
	if l.talk, err = os.Create(filepath.Join(l.dir, "dnsmasq.log")); err != nil {
		return fmt.Errorf("create log of dnsmasq: %w", err)
	}
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file", "--log-facility=-", "--log-dhcp",
		"--log-queries",
		"--interface=lab0", "--bind-interfaces", "--no-resolv", "--no-hosts", "--domain=" + Domain,
		"--local=/" + Domain + "/",
		"--dhcp-range=10.72.0.100,10.72.0.250,255.255.255.0,1h", "--dhcp-authoritative",
		"--dhcp-leasefile=" + l.leaseFile(), "--host-record=" + KnownName + "," + KnownAddress,
		"--host-record=internet." + Domain + ",203.0.113.1", // of stories with several uplinks
	}
	for n := range mostDevices {
		args = append(args, fmt.Sprintf("--dhcp-host=%s,%s", hardwareAddress(n), Address(n)))
	}
	l.dnsmasq = exec.Command("dnsmasq", args...)
	l.dnsmasq.Stdout, l.dnsmasq.Stderr = l.talk, l.talk
	l.dnsmasq.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.dnsmasq.Start(); err != nil {
		l.dnsmasq = nil
		return fmt.Errorf("start dnsmasq (Debian package dnsmasq-base): %w", err)
	}
	return l.awaitServer(ctx)
}

// awaitServer waits until dnsmasq has reported that it is ready.
func (l *Lab) awaitServer(ctx context.Context) error {
	late := time.NewTimer(testenv.Patience())
	defer late.Stop()
	for {
		said := l.Said()
		if strings.Contains(said, "DHCP, IP range") {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-late.C:
			return fmt.Errorf("start dnsmasq: it says %q", said)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *Lab) leaseFile() string { return filepath.Join(l.dir, "leases") }

// Said returns the log of dnsmasq.
func (l *Lab) Said() string {
	text, err := os.ReadFile(l.talk.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Lease returns dnsmasq's line about a device: end of the lease, hardware address, address, host name, client
// identifier. It is empty if there is none.
func (l *Lab) Lease(number int) (string, error) {
	text, err := os.ReadFile(l.leaseFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read leases: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, hardwareAddress(number)) {
			return strings.TrimSpace(line), nil
		}
	}
	return "", nil
}

// Tap creates the link of a device, adds it to the bridge and sets it up.
func (l *Lab) Tap(number int) (string, error) {
	name := fmt.Sprintf("tap%d", number)
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		return "", fmt.Errorf("create link %s: %w", name, err)
	}
	if err := errors.Join(netlink.LinkSetMaster(tap, l.bridge), netlink.LinkSetUp(tap)); err != nil {
		return "", fmt.Errorf("add link %s to the bridge: %w", name, err)
	}
	return name, nil
}

// Close ends dnsmasq and removes the files. The links disappear with the namespace.
func (l *Lab) Close() error {
	if l.dnsmasq != nil {
		_ = l.dnsmasq.Process.Kill() // fails only if it has ended
		_ = l.dnsmasq.Wait()         // it was killed
	}
	if l.talk != nil {
		_ = l.talk.Close() // only dnsmasq wrote
	}
	return os.RemoveAll(l.dir)
}

// hardwareAddress returns the address of the device with this number; the lab knows numbers below mostDevices.
func hardwareAddress(number int) string { return fmt.Sprintf("52:54:00:72:00:%02x", number) }

// Address is the address that the device with this number gets by DHCP.
func Address(number int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 72, 0, byte(100 + number)})
}
