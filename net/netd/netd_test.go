package netd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/lease"
	"resinos/net/link"
	"resinos/net/link/linktest"
	"resinos/net/netstate"
)

// device is a netd under test with one claimed link, w0.
type device struct {
	t      *testing.T
	far    *linktest.Far
	dir    string
	log    *logBuffer
	leases chan lease.Lease
	stop   func()

	settings string // where the owner's are published
	keyFiles string // the directory of key files
	control  string // netd's socket
	changed  func(netstate.State)
	identity string // of the device
	memory   string // directory of the leases of earlier boots
	silent   func(links []string)
	vpn      string // directory of the tunnels
}

type logBuffer = testenv.Log

func newDevice(t *testing.T) *device {
	d := &device{t: t, far: linktest.Cable(t, "w0"), dir: t.TempDir(), log: &logBuffer{}}
	d.leases = make(chan lease.Lease, 100)
	d.far.Address("10.9.0.1/24")
	d.far.Up()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of netd:\n%s", d.log)
		}
	})
	return d
}

func (d *device) config() Config {
	return Config{
		ResolvPath:  filepath.Join(d.dir, "resolv.conf"),
		LeaseDir:    filepath.Join(d.dir, "leases"),
		Log:         slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnLease:     func(l lease.Lease) { d.leases <- l },
		Profiles:    []link.Profile{{Name: "w0", Method: link.DHCP, Metric: 100}},
		KeyFiles:    d.keyFiles,
		Identity:    d.identity,
		Control:     d.control,
		Hold:        2 * time.Second,
		Settings:    d.settings,
		Changed:     d.changed,
		LeaseMemory: d.memory,
		Silent:      d.silent,
		VPN:         d.vpn,
	}
}

// start runs netd in this process until stop or the end of the test.
func (d *device) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, d.config()) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("Run = %v", err)
		}
	})
	d.t.Cleanup(d.stop)
}

func (d *device) lease() lease.Lease {
	d.t.Helper()
	return testenv.Receive(d.t, "a lease", d.leases)
}

// eventually waits until ok holds.
func (d *device) eventually(what string, ok func() bool) {
	d.t.Helper()
	testenv.WaitFor(d.t, what, ok)
}

func (d *device) resolv() string {
	text, err := os.ReadFile(filepath.Join(d.dir, "resolv.conf"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// dnsmasq starts Debian's dnsmasq at the far end, with further arguments, and returns it.
func (d *device) dnsmasq(args ...string) *exec.Cmd {
	d.t.Helper()
	path := testenv.NeedProgram(d.t, "dnsmasq")
	args = append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=",
		"--log-dhcp", "--log-facility=-", "--no-ping", "--dhcp-authoritative",
		"--interface=" + d.far.Name, "--dhcp-leasefile=" + filepath.Join(d.dir, "dnsmasq.leases"),
	}, args...)
	cmd := exec.Command(path, args...)
	var out logBuffer
	cmd.Stderr = &out
	d.far.Start(cmd)
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("log of dnsmasq:\n%s", &out)
		}
	})
	d.eventually("dnsmasq serves", func() bool {
		return strings.Contains(out.String(), "DHCP, IP range")
	})
	return cmd
}

const smallRange = "--dhcp-range=10.9.0.50,10.9.0.90,255.255.255.0,1h"

func TestLeaseFromDnsmasq(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=option:dns-server,10.9.0.1,10.9.0.2",
		"--dhcp-option=option:domain-search,one.example,two.example",
		"--dhcp-option=option:mtu,1400", "--dhcp-option=option:ntp-server,10.9.0.3")
	began := time.Now()
	d.start()
	l := d.lease()
	t.Logf("lease after %s", time.Since(began))
	if got := linktest.Addresses(t, "w0"); !slices.Equal(got, []string{l.Address.String()}) {
		t.Errorf("addresses = %q, want the lease's %s", got, l.Address)
	}
	if got, want := linktest.Routes(t, "w0"), []string{"default via 10.9.0.1", "10.9.0.0/24"}; !slices.Equal(got,
		want) {
		t.Errorf("routes = %q, want %q", got, want)
	}
	for _, want := range []string{"search one.example two.example\n", "nameserver 10.9.0.1\nnameserver 10.9.0.2\n"} {
		if !strings.Contains(d.resolv(), want) {
			t.Errorf("resolv.conf = %q, want %q in it", d.resolv(), want)
		}
	}
	mtu, _ := os.ReadFile("/sys/class/net/w0/mtu")
	if string(mtu) != "1400\n" {
		t.Errorf("mtu = %q, want 1400", mtu)
	}
	if fmt.Sprint(l.NTP) != "[10.9.0.3]" {
		t.Errorf("ntp = %v, want 10.9.0.3", l.NTP)
	}
	if saved, err := lease.Load(d.config().LeaseDir, "w0"); err != nil || saved.Address != l.Address {
		t.Errorf("saved lease = %v, %v; want %s", saved.Address, err, l.Address)
	}
	steps := strings.Count(d.log.String(), "link step")
	d.stop()
	if got := linktest.Addresses(t, "w0"); len(got) != 1 {
		t.Errorf("addresses after the end of netd = %q, want them kept", got)
	}
	if again := strings.Count(d.log.String(), "link step"); again != steps {
		t.Errorf("%d steps after the lease was bound, want none", again-steps)
	}
}
