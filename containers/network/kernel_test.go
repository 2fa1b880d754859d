package network

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/containers/network/pool"
	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/nameserver"
)

// world is a device with a neighbour, 10.50.0.2, behind its uplink, 10.50.0.1.
type world struct {
	t        *testing.T
	networks *Networks
	far      *linktest.Far
	pids     map[string]int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, pids: map[string]int{}}
	dir := t.TempDir()
	w.networks = newNetworks(t, filepath.Join(dir, "pool.json"))
	w.far = linktest.Cable(t, "up0")
	w.far.Up()
	w.far.Address("10.50.0.2/24")
	for name, address := range map[string]string{"lo": "127.0.0.1/8", "up0": "10.50.0.1/24"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(netlink.AddrReplace(l, a), netlink.LinkSetUp(l)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// newNetworks begins another life. Its name server ends with the test, and with an empty layout.
func newNetworks(t *testing.T, file string) *Networks {
	log := slog.New(slog.DiscardHandler)
	n := &Networks{Pool: file, Files: filepath.Join(filepath.Dir(file), "files"), Log: log,
		Names: &nameserver.Server{Log: log, Upstream: func() []string { return []string{"10.50.0.2:53"} }}}
	t.Cleanup(n.Names.Close)
	return n
}

func (w *world) apply(all ...app.Container) {
	w.t.Helper()
	if err := w.networks.Apply(all, func(string) bool { return false }); err != nil {
		w.t.Fatal(err)
	}
}

// run stands for a container's program: a process in a network namespace of its own.
func (w *world) run(id string) {
	w.t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} // they end with the process namespace
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone
		cmd.Wait()         // its status is that of a killed process
	})
	w.pids[id] = cmd.Process.Pid
	if err := errors.Join(w.networks.Ready(id), w.networks.Attach(id, cmd.Process.Pid)); err != nil {
		w.t.Fatal(err)
	}
}

// in runs fn in the network of a container, of the neighbour ("far"), or of the device ("").
func (w *world) in(who string, fn func() error) error {
	switch who {
	case "":
		return fn()
	case "far":
		var err error
		w.far.Do(func() error { err = fn(); return nil })
		return err
	}
	return inNetworkOf(w.pids[who], fn)
}

// serve starts linktest.Serve in the network of a container, of the neighbour, or of the device.
func (w *world) serve(who, protocol, address string) {
	w.t.Helper()
	err := w.in(who, func() error { return linktest.Serve(w.t, protocol, address) })
	if err != nil {
		w.t.Fatal(err)
	}
}

// ask is what a server says to who asks it.
func (w *world) ask(who, protocol, address string, patience time.Duration) (answer string, err error) {
	err = w.in(who, func() error {
		answer, err = linktest.Ask(protocol, address, patience)
		return err
	})
	return answer, err
}

// reaches asks again while a neighbour does not answer: on a busy host the kernel gives up on it after three seconds.
func (w *world) reaches(who, protocol, address, seen string) {
	w.t.Helper()
	var got string
	var err error
	for range 10 {
		if got, err = w.ask(who, protocol, address, testenv.Patience()); !errors.Is(err, unix.EHOSTUNREACH) {
			break
		}
	}
	if err != nil || got != seen {
		w.t.Errorf("%q asks %s %s: server saw %q (%v), want %q", who, protocol, address, got, err, seen)
	}
}

// no asks for a moment only: a packet that is dropped is answered never.
func (w *world) no(who, protocol, address string) {
	w.t.Helper()
	if got, err := w.ask(who, protocol, address, 300*time.Millisecond); err == nil {
		w.t.Errorf("%q reaches %s %s: the server saw %q", who, protocol, address, got)
	}
}

func (w *world) address(id string) string {
	for _, b := range w.networks.layout.Bridges {
		for _, e := range b.Ends {
			if e.Container == id {
				return e.Address.String()
			}
		}
	}
	w.t.Fatalf("%s has no address", id)
	return ""
}

func (w *world) gateway(network string) string {
	for _, b := range w.networks.layout.Bridges {
		if b.Network == network {
			return b.Gateway.Addr().String()
		}
	}
	return ""
}

func TestPacketsGoWhereTheyMay(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	web := container("shop.web", tcp(8080, 80), app.Port{Protocol: "tcp", Address: "127.0.0.1", First: 8081,
		Last: 8081, Target: 80},
		app.Port{Protocol: "udp", First: 5000, Last: 5001, Target: 5000}, app.Port{Protocol: "tcp", First: 7000,
			Last: 7001, Target: 70})
	secret := container("vault.key")
	secret.Links[0].Internal = true
	vaultOut := container("vault.out")
	vaultOut.Links[0].Internal = true
	trusted := container("trusted.x")
	trusted.Hosts = []string{"device=host-gateway"}
	w.apply(web, container("shop.db"), container("other.x"), secret, vaultOut, trusted)
	for _, id := range []string{"shop.web", "shop.db", "other.x", "vault.key", "vault.out", "trusted.x"} {
		w.run(id)
	}
	for _, at := range []string{":80", ":70", ":71"} {
		w.serve("shop.web", "tcp", at)
	}
	w.serve("shop.web", "udp", ":5001")
	w.serve("far", "tcp", ":99")
	w.serve("", "tcp", ":23")
	w.serve("vault.key", "tcp", ":80")
	own, db := w.address("shop.web"), w.address("shop.db")

	w.reaches("shop.db", "tcp", own+":80", db)             // neighbours
	w.reaches("far", "tcp", "10.50.0.1:8080", "10.50.0.2") // the client's address is kept
	w.reaches("far", "udp", "10.50.0.1:5001", "10.50.0.2") // in a range
	w.reaches("far", "tcp", "10.50.0.1:7001", "10.50.0.2") // in one that is moved
	w.reaches("", "tcp", "127.0.0.1:8080", w.gateway("shop_default"))
	w.reaches("", "tcp", "127.0.0.1:8081", w.gateway("shop_default"))
	w.reaches("", "tcp", "10.50.0.1:8080", "10.50.0.1")
	w.reaches("shop.db", "tcp", "10.50.0.1:8080", w.gateway("shop_default")) // hairpin
	w.reaches("shop.web", "tcp", "10.50.0.1:8080", w.gateway("shop_default"))
	w.reaches("other.x", "tcp", "10.50.0.1:8080", w.address("other.x"))
	w.reaches("shop.web", "tcp", "10.50.0.2:99", "10.50.0.1") // masqueraded
	w.reaches("trusted.x", "tcp", w.gateway("trusted_default")+":23", w.address("trusted.x"))

	w.no("far", "tcp", "10.50.0.1:8081") // published on loopback alone
	w.no("other.x", "tcp", own+":80")
	w.no("shop.db", "tcp", "127.0.0.1:8080")
	for _, to := range []string{w.gateway("shop_default"), "10.50.0.1", w.gateway("other_default")} {
		w.no("shop.db", "tcp", to+":23") // the device's own
	}
	w.no("vault.key", "tcp", "10.50.0.2:99")
	w.no("vault.key", "tcp", "10.50.0.1:8080")
	w.far.Do(func() error { // a neighbour that knows the way
		l, err := netlink.LinkByName(w.far.Name)
		if err != nil {
			return err
		}
		b := w.networks.layout.Bridges[0]
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(b.Gateway.Masked()),
			Gw: net.IPv4(10, 50, 0, 1)})
	})
	w.no("far", "tcp", own+":80")
}

// six gives the device and its neighbour addresses of IPv6.
func (w *world) six() {
	w.t.Helper()
	w.far.Address("2001:db8::2/64")
	l, err := netlink.LinkByName("up0")
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := netlink.ParseAddr("2001:db8::1/64")
	if err != nil {
		w.t.Fatal(err)
	}
	a.Flags = unix.IFA_F_NODAD
	if err := netlink.AddrReplace(l, a); err != nil {
		w.t.Fatal(err)
	}
	w.far.Do(func() error { // its address is being checked for duplicates
		testenv.WaitFor(w.t, "the neighbour's address", func() bool {
			c, err := net.ListenPacket("udp6", "[2001:db8::2]:0")
			if err != nil {
				return false
			}
			return c.Close() == nil
		})
		return nil
	})
}

// address6 is that of a container.
func (w *world) address6(id string) string {
	for _, b := range w.networks.layout.Bridges {
		for _, e := range b.Ends {
			if e.Container == id && e.Address6.IsValid() {
				return e.Address6.String()
			}
		}
	}
	w.t.Fatalf("%s has no address of IPv6", id)
	return ""
}

// gateway6 is the device's address on a network.
func (w *world) gateway6(network string) string {
	for _, b := range w.networks.layout.Bridges {
		if b.Network == network {
			return b.Gateway6.Addr().String()
		}
	}
	return ""
}

// TestPacketsOfIPv6GoWhereTheyMay: what holds for IPv4 does for IPv6.
func TestPacketsOfIPv6GoWhereTheyMay(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.six()
	with := func(id string, ports ...app.Port) app.Container {
		c := container(id, ports...)
		c.Links[0].IPv6 = true
		return c
	}
	web := with("shop.web", tcp(8080, 80), app.Port{Protocol: "tcp", Address: "2001:db8::1", First: 8081, Last: 8081,
		Target: 80}, app.Port{Protocol: "udp", First: 5000, Last: 5001, Target: 5000},
		app.Port{Protocol: "tcp", Address: "0.0.0.0", First: 8082, Last: 8082, Target: 80},
		app.Port{Protocol: "tcp", Address: "::", First: 8083, Last: 8083, Target: 80})
	secret, trusted := with("vault.key"), with("trusted.x")
	secret.Links[0].Internal = true
	trusted.Hosts = []string{"device=host-gateway"}
	w.apply(web, with("shop.db"), with("other.x"), container("old.x"), secret, trusted)
	for _, id := range []string{"shop.web", "shop.db", "other.x", "old.x", "vault.key", "trusted.x"} {
		w.run(id)
	}
	w.serve("shop.web", "tcp", ":80")
	w.serve("shop.web", "udp", ":5001")
	w.serve("far", "tcp", ":99")
	w.serve("", "tcp", ":23")
	w.serve("vault.key", "tcp", ":80")
	own, db := w.address6("shop.web"), w.address6("shop.db")

	w.reaches("shop.db", "tcp", "["+own+"]:80", db)              // neighbours
	w.reaches("far", "tcp", "[2001:db8::1]:8080", "2001:db8::2") // the client's address is kept
	w.reaches("far", "tcp", "10.50.0.1:8080", "10.50.0.2")
	w.reaches("far", "udp", "[2001:db8::1]:5001", "2001:db8::2")
	w.reaches("far", "tcp", "[2001:db8::1]:8081", "2001:db8::2")
	w.reaches("far", "tcp", "10.50.0.1:8082", "10.50.0.2")
	w.reaches("far", "tcp", "[2001:db8::1]:8083", "2001:db8::2")
	w.reaches("", "tcp", "[2001:db8::1]:8080", "2001:db8::1")
	w.reaches("shop.db", "tcp", "[2001:db8::1]:8080", w.gateway6("shop_default")) // hairpin
	w.reaches("shop.web", "tcp", "[2001:db8::1]:8080", w.gateway6("shop_default"))
	w.reaches("other.x", "tcp", "[2001:db8::1]:8080", w.address6("other.x"))
	w.reaches("shop.web", "tcp", "[2001:db8::2]:99", "2001:db8::1") // masqueraded
	w.reaches("trusted.x", "tcp", "["+w.gateway6("trusted_default")+"]:23", w.address6("trusted.x"))

	w.no("far", "tcp", "[2001:db8::1]:8082") // published on one family alone
	w.no("far", "tcp", "10.50.0.1:8083")
	w.no("other.x", "tcp", "["+own+"]:80")
	w.no("old.x", "tcp", "[2001:db8::1]:8080") // its network has none
	for _, to := range []string{w.gateway6("shop_default"), "2001:db8::1", w.gateway6("other_default")} {
		w.no("shop.db", "tcp", "["+to+"]:23") // the device's own
	}
	w.no("vault.key", "tcp", "[2001:db8::2]:99")
	w.no("vault.key", "tcp", "[2001:db8::1]:8080")
	w.far.Do(func() error { // a neighbour that knows the way
		l, err := netlink.LinkByName(w.far.Name)
		if err != nil {
			return err
		}
		_, to, err := net.ParseCIDR("fd00::/8")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Gw: net.ParseIP("2001:db8::1")})
	})
	w.no("far", "tcp", "["+own+"]:80")

	t.Run("addresses stay, and the device is a host on its links", func(t *testing.T) {
		for path, want := range map[string]string{"all/forwarding": "1", "up0/forwarding": "0",
			"default/forwarding": "0", "up0/accept_ra": "1"} {
			text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + path)
			if err != nil || strings.TrimSpace(string(text)) != want {
				t.Errorf("%s is %q, want %s (%v)", path, text, want, err)
			}
		}
		w.networks.Names.Close()
		next := newNetworks(t, w.networks.Pool)
		if err := next.Apply([]app.Container{web, with("shop.db")}, func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		w.networks = next
		if got := w.address6("shop.web"); got != own {
			t.Errorf("%s was %s", got, own)
		}
		if err := next.Apply(nil, func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if got := left(t); got != "" {
			t.Errorf("left: %s", got)
		}
	})
}

// left names links and tables of ours.
func left(t *testing.T) string {
	t.Helper()
	var out []string
	links, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	for name := range links {
		out = append(out, name)
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		out = append(out, table.Name)
	}
	return strings.Join(out, " ")
}

// TestManyRules: a transaction with the rules of many networks and ports is answered whole.
func TestManyRules(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	rules := slices.Repeat([]Rule{{Chain: forward, In: "net-0123456789", Known: true, Do: accept}}, 5000)
	if err := applyRules(rules); err != nil {
		t.Fatal(err)
	}
	if err := applyRules(nil); err != nil {
		t.Fatal(err)
	}
	if got := left(t); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestLeftoversGo(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	again := func() *Networks { return newNetworks(t, w.networks.Pool) }
	a, b := container("a.x", tcp(80, 80)), container("b.x")
	w.apply(a, b)
	w.apply(a, b) // twice is as once
	for name, before := range map[string]func() error{
		"another life":        func() error { return nil },
		"cut after the pool":  func() error { return pool.Save(w.networks.Pool, pool.Pool{}) },
		"cut after the rules": func() error { return applyRules(nil) },
		"cut in the links":    func() error { return applyBridges(w.networks.layout.Bridges[:1]) },
		"garbage in the pool": func() error { return exec.Command("sh", "-c", "echo '{{{' >"+w.networks.Pool).Run() },
	} {
		t.Run(name, func(t *testing.T) {
			if err := again().Apply([]app.Container{a, b}, func(string) bool { return false }); err != nil {
				t.Fatal(err)
			}
			if got := left(t); strings.Count(got, "net-") != 2 || !strings.Contains(got, tableName) {
				t.Fatalf("made: %s", got)
			}
			if err := before(); err != nil {
				t.Fatal(err)
			}
			if err := again().Apply(nil, func(string) bool { return false }); err != nil {
				t.Fatal(err)
			}
			if got := left(t); got != "" {
				t.Errorf("left: %s", got)
			}
		})
	}
}

// TestUnreadableAppKeepsItsNetwork: while a container is there its network and ports are, in the next life too.
func TestUnreadableAppKeepsItsNetwork(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.apply(container("a.x", tcp(8080, 80)))
	w.run("a.x")
	w.serve("a.x", "tcp", ":80")
	w.networks.Names.Close()
	next := newNetworks(t, w.networks.Pool)
	for range 2 {
		if err := next.Apply(nil, func(id string) bool { return id == "a.x" }); err != nil {
			t.Fatal(err)
		}
		w.reaches("far", "tcp", "10.50.0.1:8080", "10.50.0.2")
	}
}

// TestPortComesFree: who has a port is said, and when it is free the container has it.
func TestPortComesFree(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	l, err := net.Listen("tcp4", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	w.apply(container("a.x", tcp(8080, 80)))
	if err := w.networks.Ready("a.x"); err == nil || !strings.Contains(err.Error(),
		"taken by the device: program exe (process 1)") {
		t.Errorf("port of a program: %v", err)
	}
	l.Close()
	w.run("a.x")
	w.serve("a.x", "tcp", ":80")
	w.reaches("far", "tcp", "10.50.0.1:8080", "10.50.0.2")
}

// TestAttachAgain: what a start left that was cut off is in nobody's way, and a bridge that somebody removed comes
// back.
func TestAttachAgain(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.apply(container("a.x", tcp(8080, 80)))
	w.run("a.x") // it stays, with its end
	w.run("a.x")
	bridges, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bridges {
		if err := netlink.LinkDel(b); err != nil {
			t.Fatal(err)
		}
	}
	w.run("a.x")
	w.serve("a.x", "tcp", ":80")
	w.reaches("far", "tcp", "10.50.0.1:8080", "10.50.0.2")
}

// resolve asks for an address as a container does, of the server that its resolv.conf names.
func (w *world) resolve(who, name string) string {
	w.t.Helper()
	resolv, _ := w.networks.FilesOf(who)
	config, err := dns.ClientConfigFromFile(resolv)
	if err != nil {
		w.t.Fatal(err)
	}
	var reply *dns.Msg
	err = w.in(who, func() error {
		client := dns.Client{Timeout: testenv.Patience()}
		reply, _, err = client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), config.Servers[0]+":53")
		return err
	})
	if err != nil {
		return err.Error()
	}
	if len(reply.Answer) == 0 {
		return dns.RcodeToString[reply.Rcode]
	}
	return reply.Answer[0].(*dns.A).A.String()
}

func TestNames(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	w.far.Do(func() error {
		packets, err := net.ListenPacket("udp4", "10.50.0.2:53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { packets.Close() })
		server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			reply := new(dns.Msg).SetReply(q)
			if rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.1"); err == nil &&
				q.Question[0].Name == "example.org." {
				reply.Answer = append(reply.Answer, rr)
			} else {
				reply.Rcode = dns.RcodeNameError
			}
			_ = w.WriteMsg(reply) // who asked may have left
		})}
		go server.ActivateAndServe() // ends with its socket
		return nil
	})
	web, db, back := container("shop.web"), container("shop.db"), app.Link{Network: "shop_back", Internal: true,
		Aliases: []string{"Store"}}
	web.Links = []app.Link{{Network: "shop_back", Internal: true}, {Network: "shop_default"}}
	web.Hosts = []string{"device=host-gateway"}
	db.Links, db.ContainerName = []app.Link{back}, "the-db"
	greedy := container("greedy.dns", app.Port{Protocol: "udp", First: 53, Last: 53, Target: 53})
	all := []app.Container{web, db, container("other.x"), greedy}
	w.apply(all...)
	for _, c := range all {
		w.run(c.ID())
	}
	store := w.address("shop.db")
	for _, c := range []struct{ who, name, want string }{
		{"shop.web", "db", store}, {"shop.web", "store", store}, {"shop.web", "THE-DB", store}, {"shop.web", "shop.db",
			store},
		{"shop.web", "example.org", "192.0.2.1"}, {"shop.web", "x", "NXDOMAIN"},
		{"shop.db", "example.org", "NXDOMAIN"}, // nothing leaves its network
		{"other.x", "example.org", "192.0.2.1"}, {"other.x", "db", "NXDOMAIN"},
	} {
		if got := w.resolve(c.who, c.name); got != c.want {
			t.Errorf("%s asks for %s: %s, want %s", c.who, c.name, got, c.want)
		}
	}
	_, hosts := w.networks.FilesOf("shop.web")
	if text, err := os.ReadFile(hosts); err != nil || !strings.Contains(string(text),
		w.gateway("shop_default")+"\tdevice") {
		t.Errorf("hosts of shop.web: %v\n%s", err, text)
	}
	w.networks.Names.Close() // as with a killed manager
	w.networks = newNetworks(t, w.networks.Pool)
	w.apply(all...)
	if got := w.resolve("shop.web", "db"); got != store {
		t.Errorf("in the next life: %s", got)
	}
	w.apply(container("other.x"))
	if left, err := os.ReadDir(w.networks.Files); err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
}
