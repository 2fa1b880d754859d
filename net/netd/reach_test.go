package netd

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/netcontrol"
	"resinos/services/settings"
)

// internet serves status 204 at the same address behind each router.
const internet = "203.0.113.1/32"

// serveInternet serves at the far end of a cable until the test ends.
func serveInternet(t *testing.T, far *linktest.Far) {
	far.Address(internet)
	far.Do(func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
		server := &http.Server{Handler: http.HandlerFunc(answer)}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
		return nil
	})
}

// metric returns the metric of the IPv4 default route through a link; 0: there is none.
func metric(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Gw != nil {
			return r.Priority
		}
	}
	return 0
}

// twoUplinks returns a device with two links that have static addresses, each with the internet behind its router, and
// metrics 102 (w0) and 103 (w1).
func twoUplinks(t *testing.T) (d *device, second *linktest.Far) {
	d = keyed(t)
	second = linktest.Cable(t, "w1")
	second.Address("10.8.0.1/24")
	second.Up()
	serveInternet(t, d.far)
	serveInternet(t, second)
	for name, subnet := range map[string]string{"w0": "10.9.0", "w1": "10.8.0"} {
		metric := map[string]string{"w0": "102", "w1": "103"}[name]
		d.put(name, "[connection]\nid="+name+"\ntype=ethernet\ninterface-name="+name+
			"\n[ipv4]\nmethod=manual\naddress1="+subnet+".50/24,"+subnet+".1\nroute-metric="+metric+
			"\ndns="+subnet+".1;\n[ipv6]\nmethod=disabled\n")
	}
	d.settings = filepath.Join(d.dir, "run", "config.json")
	d.control = filepath.Join(d.dir, "net.sock")
	_, err := settings.Publish(d.settings, settings.Settings{Values: map[string]settings.Value{
		"os.network.connectivity.uri":      {JSON: json.RawMessage(`"http://203.0.113.1/check"`), From: settings.File},
		"os.network.connectivity.interval": {JSON: json.RawMessage(`1`), From: settings.File},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d, second
}

func (d *device) wantMetrics(what string, w0, w1 int) {
	d.t.Helper()
	d.eventually(what, func() bool { return metric(d.t, "w0") == w0 && metric(d.t, "w1") == w1 })
}

// reached returns how far a link gets, as osctl is told.
func (d *device) reached(name string) string {
	s, err := netcontrol.Client{Socket: d.control}.Status(d.t.Context())
	if err != nil {
		return err.Error()
	}
	for _, l := range s.Links {
		if l.Name == name {
			return strings.TrimSpace(l.Reach + " " + l.ReachReason)
		}
	}
	return "no such link"
}

// TestFailover: the link in use breaks behind its router, comes back, and then both break.
func TestFailover(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d, second := twoUplinks(t)
	d.start()
	d.wantMetrics("both uplinks", 102, 103)
	d.eventually("both are good", func() bool { return d.reached("w0") == "full" && d.reached("w1") == "full" })

	d.far.Unaddress(internet)
	d.wantMetrics("the other link takes over", 20102, 103)
	if got := linktest.Addresses(t, "w0"); !slices.Equal(got, []string{"10.9.0.50/24"}) {
		t.Errorf("addresses of the broken link: %q, want them kept", got)
	}
	if got := d.reached("w0"); !strings.HasPrefix(got, "limited 203.0.113.1: ") {
		t.Errorf("reach of the broken link: %q", got)
	}
	d.eventually("its name servers go last", func() bool {
		return strings.Contains(d.resolv(), "nameserver 10.8.0.1\nnameserver 10.9.0.1\n")
	})

	d.far.Address(internet)
	d.wantMetrics("the link takes its place again", 102, 103)
	d.eventually("name servers in the first order", func() bool {
		return strings.Contains(d.resolv(), "nameserver 10.9.0.1\nnameserver 10.8.0.1\n")
	})

	second.Unaddress(internet)
	d.wantMetrics("the other one is last", 102, 20103)
	d.far.Unaddress(internet)
	d.wantMetrics("without a good one the first order counts", 102, 103)
	if got := strings.Count(d.log.String(), "priority of link "); got != 4 {
		t.Errorf("priorities changed %d times, want 4", got)
	}
}

// TestBrokenFromTheStart: a link that is up and never reached anything gives way at once.
func TestBrokenFromTheStart(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d, _ := twoUplinks(t)
	d.far.Unaddress("10.9.0.1/24")
	d.start()
	d.wantMetrics("the other link takes over", 20102, 103)
	d.eventually("the reason", func() bool { return d.reached("w0") == "none the gateway 10.9.0.1 does not answer" })
	if got := strings.Count(d.log.String(), "priority of link "); got != 1 {
		t.Errorf("priorities changed %d times, want once", got)
	}
}

// TestUplinkLeaves: without another one, a broken uplink has its usual metric.
func TestUplinkLeaves(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	d, second := twoUplinks(t)
	d.far.Unaddress(internet)
	d.start()
	d.wantMetrics("the other link takes over", 20102, 103)
	second.Down()
	d.eventually("the broken link is the only one", func() bool { return metric(t, "w0") == 102 })
	second.Up()
	d.wantMetrics("the other link takes over again", 20102, 103)
}

// TestTunnelKeepsItsPriority: what is meant for a tunnel does not leave beside it because the other end is silent.
func TestTunnelKeepsItsPriority(t *testing.T) {
	t.Parallel()
	if !linktest.Isolate(t) {
		return
	}
	tunnel := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "t0"}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		NonPersist: true, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS}
	if err := netlink.LinkAdd(tunnel); err != nil {
		t.Fatal(err)
	}
	defer tunnel.Fds[0].Close() // while it is open, the link has a carrier
	d, _ := twoUplinks(t)
	d.put("t0", "[connection]\nid=t0\ntype=ethernet\ninterface-name=t0\n[ipv4]\nmethod=manual\n"+
		"address1=10.7.0.2/24,10.7.0.1\nroute-metric=50\n[ipv6]\nmethod=disabled\n")
	d.start()
	d.eventually("the others are good", func() bool { return d.reached("w0") == "full" && d.reached("w1") == "full" })
	d.eventually("the tunnel", func() bool { return metric(t, "t0") == 50 })
	testenv.Never(t, 2*time.Second, "another metric of the tunnel", func() bool { return metric(t, "t0") != 50 })
	if got := d.reached("t0"); got != "-" {
		t.Errorf("reach of the tunnel: %q", got)
	}
}
