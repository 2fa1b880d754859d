package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/containers/app"
	"resinos/containers/network/listening"
	"resinos/containers/network/pool"
	"resinos/mounts/testenv"
)

// container is one on the default network of its app.
func container(id string, ports ...app.Port) app.Container {
	name, service, _ := strings.Cut(id, ".")
	return app.Container{App: name, Service: service, Network: app.NetworkBridge,
		Links: []app.Link{{Network: name + "_" + app.DefaultNetwork}}, Ports: ports}
}

func tcp(host, target uint16) app.Port {
	return app.Port{Protocol: "tcp", First: host, Last: host, Target: target}
}

func text(l Layout) string {
	var b strings.Builder
	for _, br := range l.Bridges {
		fmt.Fprintf(&b, "network %s: %s %s internal=%v mtu=%d\n", br.Network, br.Link, br.Gateway, br.Internal, br.MTU)
		for _, e := range br.Ends {
			fmt.Fprintf(&b, "  %s: %s %s %s default=%v device=%v names=%v\n", e.Container, e.Link, e.Inside, e.Address,
				e.Default, e.Device, e.Names)
		}
	}
	for _, r := range Rules(l) {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	web := container("shop.web", tcp(8080, 80), app.Port{Protocol: "udp", Address: "192.168.1.2", First: 5000,
		Last: 5009, Target: 5000}, app.Port{Protocol: "tcp", First: 7000, Last: 7001, Target: 70})
	web.Links = []app.Link{{Network: "shop_back", Internal: true, Subnet: "10.77.0.0/24", Address: "10.77.0.9",
		MTU: 1400}, {Network: "shop_front", Aliases: []string{"www"}}}
	web.ContainerName = "the-web"
	db := container("shop.db")
	db.Links = web.Links[:1:1]
	db.Links = []app.Link{{Network: "shop_back", Internal: true, Subnet: "10.77.0.0/24", MTU: 1400}}
	other := container("other.main")
	other.Hosts = []string{"device=host-gateway"}
	host := app.Container{App: "other", Service: "host", Network: app.NetworkHost}
	l, _ := Plan([]app.Container{web, db, other, host}, pool.Pool{},
		Surroundings{Routes: []netip.Prefix{netip.MustParsePrefix("10.114.105.0/24")}})
	if len(l.Faults) > 0 {
		t.Errorf("faults %v", l.Faults)
	}
	testenv.Golden(t, "plan.golden", text(l))
}

func TestAddressesStay(t *testing.T) {
	first, kept := Plan([]app.Container{container("a.one"), container("a.two"), container("b.x")}, pool.Pool{},
		Surroundings{})
	file := filepath.Join(t.TempDir(), "pool.json")
	if err := pool.Save(file, kept); err != nil {
		t.Fatal(err)
	}
	kept, err := pool.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	// a third one that sorts before all, and one leaves
	later, kept := Plan([]app.Container{container("a.first"), container("a.two"), container("a0.x"), container("b.x")},
		kept, Surroundings{})
	where := func(l Layout, id string) netip.Addr {
		for _, b := range l.Bridges {
			for _, e := range b.Ends {
				if e.Container == id {
					return e.Address
				}
			}
		}
		return netip.Addr{}
	}
	for _, id := range []string{"a.two", "b.x"} {
		if was, is := where(first, id), where(later, id); was != is || !was.IsValid() {
			t.Errorf("%s moved from %v to %v", id, was, is)
		}
	}
	if got := where(later, "a.first"); got != where(first, "a.one") {
		t.Errorf("a.first has %v, not the address that is free", got)
	}
	if _, none := Plan(nil, kept, Surroundings{}); len(none.Networks)+len(none.Apps) > 0 {
		t.Errorf("left in the pool: %v", none)
	}
}

// TestPoolGarbage: planning does not panic, whatever the pool's file says, and what is sound in it counts.
func TestPoolGarbage(t *testing.T) {
	const good = `{"Networks":{"a_default":{"Prefix":"10.114.105.0/24","Addresses":{"a.web":"10.114.105.2"}}},
		"Apps":{"a":[{"App":"a","Service":"web","Network":"bridge",
		"Links":[{"Network":"a_default","Subnet":"10.1.0.0/24","Address":"10.1.0.9"}],
		"Ports":[{"Protocol":"tcp","Address":"127.0.0.1","First":80,"Last":81,"Target":90}]}]}}`
	for _, tt := range []struct {
		from, to string
		kept     bool
	}{
		{"", "", true},
		{"10.1.0.0/24", "garbage", false},
		{"10.1.0.0/24", "fd00::/64", false},
		{"10.1.0.0/24", "10.1.0.0/32", false},
		{"10.1.0.9", "garbage", false},
		{"10.1.0.9", "fd00::9", false},
		{"127.0.0.1", "garbage", false},
		{"127.0.0.1", "::1", true},
		{"127.0.0.1", "::1%lo", false},
		{`"First":80`, `"First":90`, false},
		{`"Target":90`, `"Target":65535`, false},
		{"10.114.105.0/24", "fd00::/64", true},
		{"10.114.105.2", "fd00::2", true},
		{`"Links"`, `"Other"`, true},
	} {
		file := filepath.Join(t.TempDir(), "networks.json")
		if err := os.WriteFile(file, []byte(strings.Replace(good, tt.from, tt.to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		kept, err := pool.Load(file)
		if err != nil || (len(kept.Apps["a"]) == 1) != tt.kept {
			t.Fatalf("%s for %s: %d containers, %v", tt.to, tt.from, len(kept.Apps["a"]), err)
		}
		layout, _ := Plan(kept.Apps["a"], kept, Surroundings{})
		Rules(layout)
	}
}

func TestSubnetsAvoid(t *testing.T) {
	var routes []netip.Prefix
	for range 5 {
		l, kept := Plan([]app.Container{container("a.x")}, pool.Pool{}, Surroundings{Routes: routes})
		got := l.Bridges[0].Gateway.Masked()
		for _, r := range append(routes, netip.MustParsePrefix("10.114.101.0/24"),
			netip.MustParsePrefix("10.114.104.0/25")) {
			if got.Overlaps(r) {
				t.Errorf("%v overlaps %v", got, r)
			}
		}
		routes = append(routes, netip.PrefixFrom(got.Addr(), 20).Masked())
		if moved, _ := Plan([]app.Container{container("a.x")}, kept,
			Surroundings{Routes: routes}); moved.Bridges[0].Gateway.Masked() == got {
			t.Errorf("%v stays though the route to %v came", got, routes)
		}
	}
	l, _ := Plan([]app.Container{container("a.x")}, pool.Pool{},
		Surroundings{Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("172.16.0.0/12")}})
	if err := l.Faults["a.x"]; err == nil || !strings.Contains(err.Error(), "no subnet is free") {
		t.Errorf("without a free subnet: %v", err)
	}
}

func TestFaults(t *testing.T) {
	inside := container("in.x", tcp(1, 1))
	inside.Links[0].Internal = true
	fixed := func(id, address string) app.Container {
		c := container(id)
		c.Links[0].Subnet, c.Links[0].Address = "10.9.0.0/24", address
		return c
	}
	around := Surroundings{Listeners: []listening.Listener{
		{Protocol: "tcp", Address: netip.IPv4Unspecified(), Port: 22222, Who: "ssh"},
		{Protocol: "udp", Address: netip.MustParseAddr("127.0.0.1"), Port: 53, Who: "program dns (process 7)"},
	}}
	l, _ := Plan([]app.Container{
		container("a.web", tcp(80, 80)), container("b.web", tcp(80, 8080)), container("c.ssh", tcp(22222, 22)),
		container("d.dns", app.Port{Protocol: "udp", First: 53, Last: 53, Target: 53}),
		container("e.dns", app.Port{Protocol: "udp", Address: "10.0.0.1", First: 53, Last: 53, Target: 53}),
		fixed("f.one", "10.9.0.2"), fixed("f.two", "10.9.0.2"), fixed("g.x", ""), inside,
	}, pool.Pool{}, around)
	want := map[string]string{
		"b.web": "port 80:8080/tcp is taken by app a, service web", "c.ssh": "taken by the device: ssh",
		"d.dns": "taken by the device: program dns (process 7)",
		"f.two": "10.9.0.2 has f.one already", "g.x": "overlaps network f_default", "in.x": "internal",
	}
	for id, err := range l.Faults {
		if text := want[id]; text == "" || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", id, err)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("no faults: %v", want)
	}
	if slices.ContainsFunc(l.Ports, func(f Forward) bool { return l.Faults[f.Container] != nil }) {
		t.Errorf("a port is taken from who has it: %v", l.Ports)
	}
}

// TestSmallSubnetFills: the gateway's address and the broadcast are never given out.
func TestSmallSubnetFills(t *testing.T) {
	var all []app.Container
	for i := range 6 {
		c := container(fmt.Sprintf("a.s%d", i))
		c.Links[0].Subnet = "10.9.0.0/29"
		all = append(all, c)
	}
	l, _ := Plan(all, pool.Pool{}, Surroundings{})
	if len(l.Bridges[0].Ends) != 5 || len(l.Faults) != 1 {
		t.Errorf("%d ends, faults %v", len(l.Bridges[0].Ends), l.Faults)
	}
}
