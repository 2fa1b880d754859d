package filter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/netstate"
	"resinos/net/ruleset"
)

func closed() Wish {
	return Wish{Closed: true, SSH: true, Links: []string{"eth0", "wg0", "wlan0"}, Shared: []string{"wlan0"},
		Tunnels: []string{"wg0"},
		Listens: []uint16{51820},
		Ports:   []Ports{{"tcp", 8080, 8080}, {"udp", 5000, 5010}},
		Groups:  []Group{{"resinos/containers", 4242}}}
}

func TestPlan(t *testing.T) {
	text := ""
	text += "# open\n" + Plan(Wish{Links: []string{"eth0"}}).String()
	text += "# open, with a tunnel\n" + Plan(Wish{Links: []string{"eth0", "wg0"}, Tunnels: []string{"wg0"}}).String()
	text += "# closed\n" + Plan(closed()).String()
	testenv.Golden(t, "plan", text)
}

func TestParsePorts(t *testing.T) {
	words := []string{"tcp:80", "udp:5000-5010", "sctp:1", "tcp:0", "tcp:70000", "tcp:9-8", "tcp", "", "tcp:1-x"}
	got := fmt.Sprint(ParsePorts(words))
	if want := "[{tcp 80 80} {udp 5000 5010}]"; got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
}

// device is a device with a link, w0, whose neighbour is far.
type device struct {
	t      *testing.T
	far    *linktest.Far
	keeper *Keeper
	stop   func()
	pause  time.Duration
}

func newDevice(t *testing.T) *device {
	d := &device{t: t, far: linktest.Cable(t, "w0")}
	d.address("lo", "127.0.0.1/8")
	d.address("w0", "10.9.0.1/24")
	d.far.Up()
	d.far.Address("10.9.0.2/24")
	d.far.Address("10.9.0.3/24")
	d.start()
	return d
}

func (d *device) address(name, prefix string) {
	d.t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := errors.Join(netlink.AddrReplace(l, a), netlink.LinkSetUp(l)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) start() {
	d.keeper = New(slog.New(slog.NewTextHandler(os.Stderr, nil)), d.pause)
	ctx, stop := context.WithCancel(d.t.Context())
	done, watched := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); d.keeper.Run(ctx) }()
	go func() {
		defer close(watched)
		select {
		case <-d.keeper.Began():
		case <-ctx.Done():
			return
		}
		if err := ruleset.Watch(ctx, d.keeper.Check); err != nil {
			d.t.Error(err)
		}
	}()
	d.stop = func() { stop(); <-done; <-watched }
	d.t.Cleanup(d.stop)
	d.keeper.Follow(netstate.State{Links: []netstate.Link{{Name: "w0"}}})
}

// has waits until the kernel's table is the wished one.
func (d *device) has(w Wish) {
	d.t.Helper()
	if w.Groups = groups(); w.Links == nil {
		w.Links = []string{"w0"}
	}
	want := strings.Join(strings.Fields(Plan(w).String()), " ")
	got := ""
	err := testenv.Await("the filter", func() bool {
		out, err := exec.Command("nft", "--numeric-priority", "list", "table", "inet", TableName).Output()
		text := string(out)
		for strings.Contains(text, "elements = {") { // what the kernel counts
			before, rest, _ := strings.Cut(text, "elements = {")
			_, after, _ := strings.Cut(rest, "}")
			text = before + after
		}
		got = strings.Join(strings.Fields(text), " ")
		return err == nil && got == want
	})
	if err != nil {
		d.t.Fatalf("%v\nnft:     %s\nprinted: %s", err, got, want)
	}
}

// listen opens a port of the device, whose connections it accepts and closes.
func (d *device) listen(port int) {
	d.t.Helper()
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { l.Close() })
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

// reaches reports whether the neighbour gets through to a port, from one of its addresses; what is dropped is silent,
// and not waited for as long.
func (d *device) reaches(port int, from string, expected bool) (open bool) {
	d.far.Do(func() error {
		dialer := net.Dialer{Timeout: testenv.Limit(expected), LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := dialer.DialContext(d.t.Context(), "tcp4", fmt.Sprintf("10.9.0.1:%d", port))
		if err == nil {
			open = true
			c.Close()
		}
		return nil
	})
	return open
}

// reached checks that the neighbour reaches the ports in want, of these. The others are silent: nothing refuses.
func (d *device) reached(what, want string, ports ...int) {
	d.t.Helper()
	var got []string
	for _, p := range ports {
		if d.reaches(p, "10.9.0.2", slices.Contains(strings.Fields(want), fmt.Sprint(p))) {
			got = append(got, fmt.Sprint(p))
		}
	}
	if strings.Join(got, " ") != want {
		d.t.Errorf("%s: reached %v, want %s", what, got, want)
	}
}

func TestWhatIsReached(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "busybox")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	for _, p := range []int{23, 80, 8080, 22222} {
		d.listen(p)
	}
	d.keeper.Set(false, true, nil)
	d.has(Wish{})
	d.reached("development", "23 80 8080 22222", 23, 80, 8080, 22222)
	d.keeper.Set(true, false, nil)
	d.has(Wish{Closed: true})
	d.reached("production", "", 23, 80, 8080, 22222)
	ports := []Ports{{"tcp", 8080, 8081}}
	d.keeper.Set(true, true, ports)
	d.has(Wish{Closed: true, SSH: true, Ports: ports})
	d.reached("production with keys and a port", "8080 22222", 23, 80, 8080, 22222)
	testenv.Run(t, "nft", "add table inet owner; add chain inet owner in { type filter hook input priority 0; }; "+
		"add rule inet owner in tcp dport 80 meta mark set meta mark | 0x10000000")
	d.reached("with a rule of the owner", "80", 23, 80)
	d.far.Do(func() error { // the device's own connections, and pings both ways
		l, err := net.Listen("tcp4", ":99")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	c, err := net.DialTimeout("tcp4", "10.9.0.2:99", testenv.Patience())
	if err != nil {
		t.Fatalf("the device reaches nobody: %v", err)
	}
	c.Close()
	d.far.Do(func() error {
		wait := fmt.Sprintf("-W%d", testenv.Patience()/time.Second)
		if out, err := exec.Command("busybox", "ping", "-c1", wait, "10.9.0.1").CombinedOutput(); err != nil {
			t.Errorf("ping: %v\n%s", err, out)
		}
		return nil
	})
}

// TestRates: who opens connections to the shell without end is dropped, and nobody else is; so are pings.
func TestRates(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "busybox")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.listen(sshPort)
	d.keeper.Set(true, true, nil)
	d.has(Wish{Closed: true, SSH: true})
	echo, logins := rates()
	n := 0
	for n < 100 && d.reaches(sshPort, "10.9.0.2", n < int(logins.Burst)) {
		n++
	}
	if n < int(logins.Burst) || n == 100 {
		t.Errorf("%d connections in a row, want about %d", n, logins.Burst)
	}
	if !d.reaches(sshPort, "10.9.0.3", true) {
		t.Error("another neighbour is kept out")
	}
	answers := 0
	d.far.Do(func() error {
		c, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
		if err != nil {
			return err
		}
		defer c.Close()
		ping := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
		for range 2000 {
			if _, err := c.WriteTo(ping, &net.IPAddr{IP: net.IP{10, 9, 0, 1}}); err != nil {
				return err
			}
		}
		buf := make([]byte, 100)
		for {
			// After as many as there must be, the last one is followed by none.
			c.SetReadDeadline(time.Now().Add(testenv.Limit(answers < int(echo.Burst))))
			if _, _, err := c.ReadFrom(buf); err != nil {
				return nil
			}
			answers++
		}
	})
	if answers < int(echo.Burst) || answers > 1000 {
		t.Errorf("%d of 2000 pings are answered", answers)
	}
}

// TestInventedSources: what comes from an address to which no route leads is dropped, and so are addresses of guests
// and containers that come by another link; what comes over the worse of two uplinks is not.
func TestInventedSources(t *testing.T) {
	testenv.NeedPrograms(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	other := linktest.Cable(t, "w1")
	other.Up()
	d.address("w1", "10.8.0.1/24")
	guests := linktest.Cable(t, "sh0")
	guests.Up()
	d.address("sh0", "10.42.0.1/24")
	containers := linktest.Cable(t, "net-01")
	containers.Up()
	d.address("net-01", "172.20.0.1/24")
	testenv.Run(t, "ip", "route", "add", "10.99.0.0/24", "via", "10.8.0.2", "dev", "w1", "metric", "1")
	d.keeper.Follow(netstate.State{Links: []netstate.Link{{Name: "w0"},
		{Name: "sh0", Shared: netip.MustParsePrefix("10.42.0.1/24")}}})
	d.keeper.Set(false, true, nil)
	testenv.WaitFor(t, "the filter", func() bool { return ruleset.There(Plan(Wish{})) })
	packets, err := net.ListenPacket("udp4", ":7777")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	heard := make(chan string, 100)
	go func() {
		buf := make([]byte, 100)
		for {
			n, _, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			heard <- string(buf[:n])
		}
	}()
	say := func(from, what string) {
		d.far.Do(func() error {
			out, err := exec.Command("ip", "address", "replace", from+"/32", "dev", d.far.Name).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			to := &net.UDPAddr{IP: net.IP{10, 9, 0, 1}, Port: 7777}
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(what))
			return err
		})
	}
	for _, from := range []string{"10.77.0.7", "10.42.0.7", "172.20.0.7"} {
		say(from, "invented "+from)
	}
	say("10.9.0.2", "true")
	if got := testenv.Receive(t, "a datagram", heard); got != "true" {
		t.Errorf("heard %q", got)
	}
	say("10.99.0.7", "over the worse link")
	if got := testenv.Receive(t, "a datagram", heard); got != "over the worse link" {
		t.Errorf("heard %q", got)
	}
}

// TestPassing: who is in a tunnel reaches what the device publishes, and neither the networks behind the device nor
// another tunnel, unless a rule of the owner says so. In production the networks do not reach the tunnel either.
func TestPassing(t *testing.T) {
	testenv.NeedPrograms(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	lan := d.neighbour(d.far, "10.9.0.2", "10.9.0.1")
	attach := func(link, network string) (n neighbour) {
		far := linktest.Cable(t, link)
		far.Up()
		d.address(link, network+"1/24")
		far.Address(network + "2/24")
		return d.neighbour(far, network+"2", network+"1")
	}
	peer, office, container := attach("tun0", "10.8.0."), attach("wg0", "10.7.0."), attach("net-01", "172.20.0.")
	// What containers/network publishes.
	testenv.Run(t, "nft", "add table ip shop; add chain ip shop in { type nat hook prerouting priority -100; }; "+
		"add rule ip shop in fib daddr type local tcp dport 8080 dnat to 172.20.0.2:80")
	d.keeper.Follow(netstate.State{Links: []netstate.Link{{Name: "w0"}, {Name: "tun0", Tunnel: true, Listens: 1194},
		{Name: "wg0", Tunnel: true}}})
	for _, closed := range []bool{false, true} {
		d.keeper.Set(closed, true, nil)
		d.has(Wish{Closed: closed, SSH: true, Links: []string{"w0", "tun0", "wg0"}, Tunnels: []string{"tun0", "wg0"},
			Listens: []uint16{1194}})
		for _, c := range []struct {
			what string
			from neighbour
			to   string
			want bool
		}{
			{"the tunnel reaches a network", peer, "10.9.0.2:80", false},
			{"the tunnel reaches another tunnel", peer, "10.7.0.2:80", false},
			{"the other tunnel reaches a network", office, "10.9.0.2:80", false},
			{"the tunnel reaches a container past its ports", peer, "172.20.0.2:80", false},
			{"the tunnel reaches a published port", peer, "10.8.0.1:8080", true},
			{"the network reaches a published port", lan, "10.9.0.1:8080", true},
			{"the network reaches the tunnel", lan, "10.8.0.2:80", !closed},
			{"a container reaches the network", container, "10.9.0.2:80", true},
			{"a container reaches the tunnel", container, "10.8.0.2:80", true},
		} {
			if got := c.from.reaches(c.to, c.want); got != c.want {
				t.Errorf("closed %v: %s: %v, want %v", closed, c.what, got, c.want)
			}
		}
	}
	testenv.Run(t, "nft", "add table inet owner; add chain inet owner pass { type filter hook forward priority 0; }; "+
		"add rule inet owner pass iifname tun0 ip daddr 10.9.0.2 meta mark set meta mark | 0x10000000")
	if !peer.reaches("10.9.0.2:80", true) {
		t.Error("a rule of the owner opens nothing")
	}
	if peer.reaches("10.7.0.2:80", false) {
		t.Error("a rule of the owner opens more than it names")
	}
}

// TestServingTunnel: a tunnel that others may open has the filter from the beginning, whatever the pause.
func TestServingTunnel(t *testing.T) {
	testenv.NeedPrograms(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	d := &device{t: t, far: linktest.Cable(t, "w0"), pause: 24 * time.Hour}
	d.start()
	d.keeper.Set(true, true, nil)
	there := func() bool { return ruleset.There(Plan(Wish{})) }
	testenv.Never(t, 500*time.Millisecond, "a table within the pause", there)
	d.keeper.Follow(netstate.State{Links: []netstate.Link{{Name: "w0", Tunnel: true, Listens: 1194}}})
	d.has(Wish{Closed: true, SSH: true, Tunnels: []string{"w0"}, Listens: []uint16{1194}})
}

// neighbour is a host at the far end of a cable that serves port 80, and whose packets all go to the device.
type neighbour struct {
	d   *device
	far *linktest.Far
}

func (d *device) neighbour(far *linktest.Far, own, device string) neighbour {
	d.t.Helper()
	far.Do(func() error {
		l, err := net.Listen("tcp4", own+":80")
		if err != nil {
			return err
		}
		d.t.Cleanup(func() { l.Close() })
		go func() { // ends with the listener; the kernel accepts
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		out, err := exec.Command("ip", "route", "add", "default", "via", device).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return neighbour{d, far}
}

// reaches reports whether the neighbour gets through; what is dropped is silent, and not waited for as long.
func (n neighbour) reaches(address string, expected bool) (open bool) {
	n.far.Do(func() error {
		c, err := net.DialTimeout("tcp4", address, testenv.Limit(expected))
		if err == nil {
			open = true
			c.Close()
		}
		return nil
	})
	return open
}

// TestTableComesBack: the table outlives its keeper, the next one finds it, and it comes back if somebody flushes all
// rules; tables of others stay.
func TestTableComesBack(t *testing.T) {
	testenv.NeedPrograms(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.keeper.Set(true, true, nil)
	want := Wish{Closed: true, SSH: true}
	d.has(want)
	d.stop()
	if !ruleset.There(Plan(Wish{})) {
		t.Fatal("the table is gone with its keeper")
	}
	testenv.Run(t, "nft", "add table inet other")
	d.start()
	d.keeper.Set(true, true, nil)
	d.has(want)
	testenv.Run(t, "nft", "flush ruleset; add table inet another")
	d.has(want)
	if list := testenv.Run(t, "nft", "list", "tables"); !strings.Contains(list, "another") {
		t.Errorf("tables: %s", list)
	}
}

// TestSix: IPv6 is judged too, and neighbour discovery passes.
func TestSix(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "busybox")
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.keeper.Set(true, false, nil)
	d.has(Wish{Closed: true})
	testenv.Run(t, "ip", "-6", "address", "add", "2001:db8::1/64", "dev", "w0", "nodad")
	l, err := net.Listen("tcp6", "[::]:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ping := func() (ok bool) {
		d.far.Do(func() error {
			ok = exec.Command("busybox", "ping", "-6", "-c1", "-W1", "2001:db8::1").Run() == nil
			return nil
		})
		return ok
	}
	d.far.Do(func() error {
		add := exec.Command("ip", "-6", "address", "add", "2001:db8::2/64", "dev", d.far.Name, "nodad")
		out, err := add.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	testenv.WaitFor(t, "a ping of IPv6, which needs neighbour discovery", ping)
	d.far.Do(func() error { // who wants the device's own address asks from no address, and is told
		out, err := exec.Command("ip", "-6", "address", "add", "2001:db8::1/64", "dev", d.far.Name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	testenv.WaitFor(t, "the neighbour to find the address taken", func() (found bool) {
		d.far.Do(func() error {
			out, err := exec.Command("ip", "-6", "address", "show", "dadfailed").Output()
			found = strings.Contains(string(out), "2001:db8::1/64")
			return err
		})
		return found
	})
	d.far.Do(func() error {
		if c, err := net.DialTimeout("tcp6", "[2001:db8::1]:80", testenv.Limit(false)); err == nil {
			c.Close()
			t.Error("a closed port is reached over IPv6")
		}
		return nil
	})
}

// The port of a tunnel is open while a link has it.
func TestTunnelPorts(t *testing.T) {
	k := New(slog.New(slog.DiscardHandler), 0)
	k.Follow(netstate.State{Links: []netstate.Link{{Name: "wg0", Listens: 51820}, {Name: "wg1"}}})
	if !slices.Equal(k.wish.Listens, []uint16{51820}) {
		t.Errorf("ports %v", k.wish.Listens)
	}
	if k.Follow(netstate.State{}); len(k.wish.Listens) > 0 {
		t.Errorf("ports %v", k.wish.Listens)
	}
}
