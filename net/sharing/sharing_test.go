package sharing

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/filter"
	"resinos/net/forward"
	"resinos/net/link/linktest"
	"resinos/net/netstate"
	"resinos/net/resolv"
	"resinos/net/ruleset"
)

// world is a device with an uplink, up0, and a shared link, sh0. Behind the uplink, 10.50.0.2 answers.
type world struct {
	t           *testing.T
	uplink, far *linktest.Far
	router      *Router
	link        Link
	stop        func()
	dir         string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, uplink: linktest.Cable(t, "up0"), far: linktest.Cable(t, "sh0"), dir: t.TempDir()}
	w.address("lo", "127.0.0.1/8")
	w.uplink.Up()
	w.uplink.Address("10.50.0.2/24")
	w.far.Up()
	own := w.address("sh0", "10.42.0.1/24")
	w.address("up0", "10.50.0.1/24")
	w.link = Link{Name: "sh0", Index: own.Attrs().Index, Hardware: own.Attrs().HardwareAddr.String(),
		Own: netip.MustParsePrefix("10.42.0.1/24")}
	w.uplink.Do(func() error { return linktest.Serve(t, "tcp4", ":99") })
	wish := filter.Wish{Closed: true, Links: []string{"up0", "sh0"}, Shared: []string{"sh0"}}
	if err := ruleset.Apply([]ruleset.Table{filter.Plan(wish)}); err != nil {
		t.Fatal(err)
	}
	w.start()
	return w
}

func (w *world) address(name, prefix string) netlink.Link {
	w.t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err == nil {
		err = netlink.AddrReplace(l, a)
	}
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// start starts a router, as netd does after its start.
func (w *world) start() {
	w.t.Helper()
	f := newForwarder(w.t)
	w.router = New(Config{Dir: w.dir, Names: f.Also, Log: slog.New(slog.NewTextHandler(testLog{w.t}, nil))})
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.router.Run(ctx) }()
	w.stop = func() { stop(); <-done }
	w.t.Cleanup(w.stop)
	w.router.Set([]Link{w.link})
}

// newForwarder returns one that knows localhost, which needs no server.
func newForwarder(t *testing.T) *forward.Forwarder {
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := forward.New(forward.Config{Packets: packets, Streams: streams})
	f.Set([]resolv.Source{})
	return f
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	fmt.Fprint(os.Stderr, string(p))
	return len(p), nil
}

// client runs busybox's DHCP client on the far end until it has a lease, and returns what it was given.
func (w *world) client(args ...string) string {
	w.t.Helper()
	script := filepath.Join(w.t.TempDir(), "lease")
	out := filepath.Join(w.t.TempDir(), "given")
	text := "#!/bin/sh\n[ \"$1\" = bound ] || [ \"$1\" = renew ] || exit 0\n" +
		"ip address replace $ip/$mask dev $interface\nip route replace default via $router\n" +
		"echo $ip $mask $router $dns $lease $broadcast > " + out + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
	asks := fmt.Sprint(int(testenv.Patience() / time.Second)) // one a second
	all := append([]string{"udhcpc", "-i", w.far.Name, "-f", "-n", "-q", "-t", asks, "-T", "1", "-s", script}, args...)
	cmd := exec.Command("busybox", all...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	w.far.Do(cmd.Start)
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("udhcpc: %v\n%s", err, said.String())
	}
	given, err := os.ReadFile(out)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, said.String())
	}
	return strings.TrimSpace(string(given))
}

// ask returns what the server at an address says to who asks from the far end; empty: it is not reached.
func ask(far *linktest.Far, address string, patience time.Duration) (answer string) {
	far.Do(func() error {
		c, err := net.DialTimeout("tcp4", address, patience)
		if err != nil {
			return nil
		}
		defer c.Close()
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil && err != io.EOF {
			return nil
		}
		answer = strings.TrimSpace(line)
		return nil
	})
	return answer
}

func TestClientReachesTheWorld(t *testing.T) {
	testenv.NeedPrograms(t, "busybox", "nft")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	given := strings.Fields(w.client())
	if len(given) != 6 || given[1] != "24" && given[1] != "255.255.255.0" || given[2] != "10.42.0.1" ||
		given[3] != "10.42.0.1" || given[4] != "3600" || given[5] != "10.42.0.255" {
		t.Fatalf("given %q", given)
	}
	if got := ask(w.far, "10.50.0.2:99", testenv.Patience()); got != "10.50.0.1" {
		t.Errorf("the server saw %q, want the device's address", got)
	}
	w.far.Do(func() error { // names, over both protocols
		for _, network := range []string{"udp4", "tcp4"} {
			r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, "10.42.0.1:53")
			}}
			got, err := r.LookupHost(t.Context(), "x.localhost.")
			if err != nil || len(got) == 0 || got[0] != "127.0.0.1" {
				t.Errorf("names over %s: %v, %v", network, got, err)
			}
		}
		return nil
	})
	if leases := Leases(w.dir, "sh0"); len(leases) != 1 || leases[0].Address.String() != given[0] {
		t.Errorf("leases %+v", leases)
	}
	t.Run("the uplink does not get in", func(t *testing.T) {
		w.far.Do(func() error {
			l, err := net.Listen("tcp4", ":80")
			if err == nil {
				t.Cleanup(func() { l.Close() })
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						c.Close()
					}
				}()
			}
			return err
		})
		w.uplink.Do(func() error {
			out, err := exec.Command("ip", "route", "replace", "10.42.0.0/24", "via", "10.50.0.1").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			c, err := net.DialTimeout("tcp4", given[0]+":80", testenv.Limit(false))
			if err == nil {
				c.Close()
				t.Error("a station behind the uplink reaches a client")
			}
			c, err = net.DialTimeout("tcp4", "10.42.0.1:53", testenv.Limit(false))
			if err == nil {
				c.Close()
				t.Error("a station behind the uplink asks for names")
			}
			return nil
		})
	})
	t.Run("an invented source does not get out", func(t *testing.T) {
		w.far.Do(func() error {
			out, err := exec.Command("sh", "-c", "ip address add 10.99.0.7/32 dev lo; ip link set lo up; "+
				"ip route replace 10.50.0.0/24 via 10.42.0.1 src 10.99.0.7").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			c, err := net.DialTimeout("tcp4", "10.50.0.2:99", testenv.Limit(false))
			if err == nil {
				c.Close()
				t.Error("a client reaches the world with an address of another network")
			}
			return nil
		})
	})
	w.router.Set(nil)
	testenv.WaitFor(t, "the kernel to be a host again", func() bool {
		on, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		return err == nil && strings.TrimSpace(string(on)) == "0"
	})
}

// TestNextLife: netd is started again. The way out stays meanwhile, the lease is known, and what is not shared any more
// leaves nothing.
func TestNextLife(t *testing.T) {
	testenv.NeedPrograms(t, "busybox", "nft")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	first := w.client()
	w.stop()
	if got := ask(w.far, "10.50.0.2:99", testenv.Patience()); got != "10.50.0.1" {
		t.Errorf("while netd is away: the server saw %q", got)
	}
	w.start()
	if second := w.client(); second != first {
		t.Errorf("given %q, was %q", second, first)
	}
	w.router.Set(nil)
	testenv.WaitFor(t, "the table to go", func() bool { return !ruleset.There(Plan(nil)[0]) })
	testenv.WaitFor(t, "the port to be free", func() bool {
		c, err := net.ListenPacket("udp4", ":67")
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	w.router.Set([]Link{w.link}) // and again
	w.client()
	w.stop()
	w.start()
	w.router.Set(nil) // a profile that went while netd was away
	testenv.WaitFor(t, "the table of an earlier life to go", func() bool { return !ruleset.There(Plan(nil)[0]) })
}

// TestHostileClients: garbage, floods and strangers with our addresses cost nobody his lease.
func TestHostileClients(t *testing.T) {
	testenv.NeedPrograms(t, "busybox", "nft")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	w.far.Do(func() error {
		c, err := net.ListenPacket("udp4", ":6868")
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(w.far.Name)
		if err != nil {
			return err
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { _ = unix.BindToDevice(int(fd), l.Attrs().Name) })
		}
		if err != nil {
			return err
		}
		go func() {
			defer close(ended)
			defer c.Close()
			to := &net.UDPAddr{IP: net.IPv4bcast, Port: 67}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				q, err := dhcpv4.New(dhcpv4.WithHwAddr(net.HardwareAddr{2, 9, 0, byte(n >> 16), byte(n >> 8), byte(n)}),
					dhcpv4.WithMessageType(dhcpv4.MessageType(1+n%8)),
					dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRequestedIPAddress, []byte{10, 42, 0, byte(n)})))
				if err != nil {
					return
				}
				p := q.ToBytes()
				switch n % 5 {
				case 1:
					p = p[:n%len(p)]
				case 2:
					p[n%len(p)] ^= 0xff
				}
				_, _ = c.WriteTo(p, to) // a full queue
			}
		}()
		return nil
	})
	testenv.WaitFor(t, "the flood's leases", func() bool { return len(Leases(w.dir, "sh0")) > 3 })
	close(stop)
	<-ended
	given := strings.Fields(w.client())
	if got := ask(w.far, "10.50.0.2:99", testenv.Patience()); got != "10.50.0.1" {
		t.Errorf("given %q, the server saw %q", given, got)
	}
	if n := len(Leases(w.dir, "sh0")); n > 245 {
		t.Errorf("%d leases", n)
	}
}

// TestPlan: the rules for two shared links, in the words of nft(8).
func TestPlan(t *testing.T) {
	p := netip.MustParsePrefix
	tables := Plan([]Link{{Name: "eth1", Own: p("10.42.0.1/24"), Six: p("fd00:1:2:3::1/64")},
		{Name: "wlan0", Own: p("192.168.42.1/24")}, {Name: "eth2", Six: p("2001:db8:7::1/64")},
		{Name: "eth3", Six: p("fd00:1:2:4::1/64"), Delegated: []netstate.Network{
			{Prefix: p("2001:db8:f00:1::/64"), Preferred: time.Hour, Valid: time.Hour},
			{Prefix: p("fd12:3:4:5::/64"), Valid: time.Hour}, {Prefix: p("2001:db8:aa00:1::/64")}}}})
	testenv.Golden(t, "plan", tables[0].String()+tables[1].String())
}
