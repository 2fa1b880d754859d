package mdns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
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
	"resinos/net/dnswire"
	"resinos/net/link"
	"resinos/net/link/linktest"
)

var ssh = Service{Type: "_ssh._tcp", Subtype: "_resin-device", Port: 22222}

// bench is a responder of ours at one end of a cable.
type bench struct {
	t         *testing.T
	far       *linktest.Far
	responder *Responder
	stop      func()
	bus       string // of avahi's clients at the far end
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, far: linktest.Cable(t, "w0")}
	b.far.Address("10.9.0.1/24")
	b.far.Up()
	near, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	address, _ := netlink.ParseAddr("10.9.0.2/24")
	if err := netlink.AddrAdd(near, address); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(near); err != nil {
		t.Fatal(err)
	}
	b.responder = New(Config{Serves: func(l link.Link) bool { return l.Name == "w0" },
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.responder.Run(ctx) }()
	ended := false
	b.stop = func() {
		if cancel(); !ended {
			ended = true
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		}
	}
	t.Cleanup(b.stop)
	return b
}

// avahi starts Debian's avahi-daemon at the far end, with a bus of its own for its clients.
func (b *bench) avahi(hostname string) {
	b.t.Helper()
	daemon, bus := testenv.NeedProgram(b.t, "avahi-daemon"), testenv.NeedProgram(b.t, "dbus-daemon")
	testenv.NeedPrograms(b.t, "avahi-browse", "avahi-resolve")
	dir := b.t.TempDir()
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		b.t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
		return path
	}
	socket := filepath.Join(dir, "bus")
	b.bus = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + socket
	b.far.Start(exec.Command(bus, "--nofork", "--config-file="+write("bus.conf", `<busconfig><type>system</type>
<listen>unix:path=`+socket+`</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_type="method_call"/><allow send_type="signal"/><allow send_requested_reply="true"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
<allow receive_type="signal"/></policy></busconfig>`)))
	testenv.WaitFor(b.t, "the bus", func() bool {
		conn, err := net.Dial("unix", socket)
		return err == nil && conn.Close() == nil
	})
	cmd := exec.Command(daemon, "--no-drop-root", "--no-chroot", "--no-rlimits", "-f", write("avahi.conf", `[server]
host-name=`+hostname+`
allow-interfaces=far-w0
use-ipv4=yes
use-ipv6=yes
enable-dbus=yes
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[publish]
publish-workstation=no
`))
	cmd.Env = append(os.Environ(), b.bus)
	cmd.Stderr = b.t.Output()
	b.far.Start(cmd)
	testenv.WaitFor(b.t, "avahi has its name", func() bool {
		return strings.Contains(b.client("avahi-resolve", "-4", "-n", hostname+".local"), "10.9.0.1")
	})
}

// client runs one of avahi's clients at the far end and returns what it prints.
func (b *bench) client(name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), b.bus)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	b.far.Do(cmd.Start)
	_ = cmd.Wait() // what it prints says what went wrong
	return out.String()
}

func (b *bench) until(what, want, name string, args ...string) {
	b.t.Helper()
	last := ""
	b.t.Cleanup(func() {
		if b.t.Failed() {
			b.t.Logf("%s: last output\n%s", what, last)
		}
	})
	testenv.WaitFor(b.t, what, func() bool { last = b.client(name, args...); return strings.Contains(last, want) })
}

// TestAvahiFindsUs: the real resolver and browser of other hosts.
func TestAvahiFindsUs(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	b := newBench(t)
	b.avahi("peer")
	ctx := t.Context()
	b.responder.Set(ctx, Wish{Hostname: "Device", Services: []Service{ssh}})
	b.until("our IPv4 address", "10.9.0.2", "avahi-resolve", "-4", "-n", "device.local")
	b.until("our IPv6 address", "fe80::", "avahi-resolve", "-6", "-n", "device.local")
	b.until("our name by address", "device.local", "avahi-resolve", "-a", "10.9.0.2")
	b.until("ssh", ";device.local;10.9.0.2;22222;", "avahi-browse", "-rpt", "_ssh._tcp")
	b.until("ssh by its subtype", ";device;", "avahi-browse", "-pt", "_resin-device._sub._ssh._tcp")

	q := dnswire.Question{Name: dnswire.Must("peer.local"), Type: dnswire.TypeA, Class: dnswire.ClassIN}
	data, exists := b.responder.Lookup(ctx, q)
	if !exists || len(data) != 1 || netip.AddrFrom4([4]byte(data[0])).String() != "10.9.0.1" {
		t.Errorf("peer.local is %v, %t", data, exists)
	}
	q.Name = dnswire.Must("nobody.local")
	if data, exists := b.responder.Lookup(ctx, q); exists || len(data) != 0 {
		t.Errorf("nobody.local is %v, %t", data, exists)
	}
	q.Name = dnswire.Must("device.local")
	if data, exists := b.responder.Lookup(ctx, q); !exists || len(data) != 1 || data[0][3] != 2 {
		t.Errorf("our own name is %v, %t", data, exists)
	}

	b.responder.Set(ctx, Wish{Hostname: "other", Services: []Service{ssh}})
	b.until("our new name", "10.9.0.2", "avahi-resolve", "-4", "-n", "other.local")
	b.gone("device")
	b.responder.Set(ctx, Wish{Off: true})
	b.gone("other")
}

// gone waits until no host offers ssh under the name: avahi has heard our goodbye.
func (b *bench) gone(name string) {
	b.t.Helper()
	testenv.WaitFor(b.t, "goodbye of "+name, func() bool {
		return !strings.Contains(b.client("avahi-browse", "-pt", "_ssh._tcp"), ";"+name+";")
	})
}

// TestAvahiHasOurName: whoever has the name keeps it.
func TestAvahiHasOurName(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	b := newBench(t)
	b.avahi("device")
	b.responder.Set(t.Context(), Wish{Hostname: "device", Services: []Service{ssh}})
	b.until("our second name", "10.9.0.2", "avahi-resolve", "-4", "-n", "device-2.local")
	b.until("ssh under that name", ";device-2.local;10.9.0.2;22222;", "avahi-browse", "-rpt", "_ssh._tcp")
	if got := b.client("avahi-resolve", "-4", "-n", "device.local"); !strings.Contains(got, "10.9.0.1") {
		t.Errorf("the other host's name is %s", got)
	}
}

// TestAddressesFollow: a new address is announced, and links that come and go are noticed.
func TestAddressesFollow(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	b := newBench(t)
	b.avahi("peer")
	b.responder.Set(t.Context(), Wish{Hostname: "device"})
	b.until("our address", "10.9.0.2", "avahi-resolve", "-4", "-n", "device.local")
	near, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := netlink.ParseAddr("10.9.0.2/24")
	second, _ := netlink.ParseAddr("10.9.0.3/24")
	if err := netlink.AddrDel(near, first); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(near, second); err != nil {
		t.Fatal(err)
	}
	b.until("the new address", "10.9.0.3", "avahi-resolve", "-4", "-n", "device.local")
	b.far.Down()
	testenv.WaitFor(t, "no link is served", func() bool { return len(b.responder.faces.Load().links) == 0 })
	b.far.Up()
	testenv.WaitFor(t, "the link is served", func() bool { return len(b.responder.faces.Load().links) == 1 })
	b.until("the address again", "10.9.0.3", "avahi-resolve", "-4", "-n", "device.local")
}

func TestRecords(t *testing.T) {
	host := hostOf("Long."+strings.Repeat("x", 70), 1)
	if host != dnswire.Must("long.local") {
		t.Errorf("host is %s", host)
	}
	if got := hostOf(strings.Repeat("x", 70), 12).First(); len(got) != 63 || !strings.HasSuffix(got, "x-12") {
		t.Errorf("host is %s", got)
	}
	addresses := []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fe80::1/64")}
	var got []string
	for _, r := range published(host, addresses, []Service{ssh}) {
		got = append(got, fmt.Sprintf("%s %d", r.Name, r.Type))
	}
	want := []string{"long.local 1", "2.0.9.10.in-addr.arpa 12", "long.local 28",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa 12",
		"_services._dns-sd._udp.local 12", "_ssh._tcp.local 12", "_resin-device._sub._ssh._tcp.local 12",
		"long._ssh._tcp.local 33", "long._ssh._tcp.local 16"}
	if !slices.Equal(got, want) {
		t.Errorf("records are\n%s", strings.Join(got, "\n"))
	}
}
