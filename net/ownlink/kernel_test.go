package ownlink

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/assignment"
	"resinos/net/link/linktest"
)

// keeper returns a Keeper whose log the test shows when it fails.
func keeper(t *testing.T) *Keeper {
	var log bytes.Buffer
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", &log)
		}
	})
	return &Keeper{Log: slog.New(slog.NewTextHandler(&log, nil))}
}

// settled fails the test unless the kernel has everything that the profiles ask for.
func settled(t *testing.T, k *Keeper, entries []assignment.Entry, assigned map[int]assignment.Entry) {
	t.Helper()
	k.Ensure(entries, assigned)
	if len(k.Faults) > 0 {
		t.Errorf("faults %v", k.Faults)
	}
	actual, err := Observe()
	if err != nil {
		t.Fatal(err)
	}
	if left := report(Plan(entries, assigned, actual)); left != "" {
		t.Errorf("left to do:\n%s", left)
	}
}

// has compares files of sysfs, which say what the kernel has without netlink, with their values.
func has(t *testing.T, link string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		text, err := os.ReadFile(filepath.Join("/sys/class/net", link, name))
		if got := strings.TrimSpace(string(text)); err != nil || got != value {
			t.Errorf("%s of %s is %q, %v, want %q", name, link, got, err, value)
		}
	}
}

func there(name string) bool { _, err := netlink.LinkByName(name); return err == nil }

func index(t *testing.T, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

func file(t *testing.T, kind, name, rest string) assignment.Entry {
	t.Helper()
	return entry(t, kind+"-"+name, []byte("[connection]\ntype="+kind+"\ninterface-name="+name+"\n"+rest))
}

// Every option of a bridge reaches the kernel, a changed one too, and one that is taken out of the file is the usual
// one again. The link of somebody else stays; ours is found by a later Keeper.
func TestBridge(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "vlan") // a kernel without vlans does not filter them either
	k := keeper(t)
	whole := file(t, "bridge", "br0", `[bridge]
stp=true
priority=4096
forward-delay=4
hello-time=3
max-age=8
ageing-time=60
group-forward-mask=8
group-address=01:80:C2:00:00:0E
multicast-snooping=true
multicast-router=enabled
multicast-query-use-ifaddr=true
multicast-querier=true
multicast-hash-max=1024
multicast-last-member-count=3
multicast-startup-query-count=4
multicast-last-member-interval=200
multicast-membership-interval=27000
multicast-querier-interval=26000
multicast-query-interval=13000
multicast-query-response-interval=1100
multicast-startup-query-interval=3000
vlan-filtering=true
vlan-default-pvid=7
vlan-protocol=802.1ad
vlan-stats-enabled=true
vlans=10,20-22 untagged
`)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "theirs"}}); err != nil {
		t.Fatal(err)
	}
	settled(t, k, []assignment.Entry{whole}, nil)
	has(t, "br0", map[string]string{
		"bridge/stp_state": "1", "bridge/priority": "4096", "bridge/forward_delay": "400", "bridge/hello_time": "300",
		"bridge/max_age": "800", "bridge/ageing_time": "6000", "bridge/group_fwd_mask": "0x8",
		"bridge/group_addr": "01:80:c2:00:00:0e", "bridge/multicast_router": "2",
		"bridge/multicast_query_use_ifaddr": "1",
		"bridge/multicast_querier":          "1", "bridge/hash_max": "1024", "bridge/multicast_last_member_count": "3",
		"bridge/multicast_startup_query_count": "4", "bridge/multicast_last_member_interval": "200",
		"bridge/multicast_membership_interval": "27000", "bridge/multicast_querier_interval": "26000",
		"bridge/multicast_query_interval": "13000", "bridge/multicast_query_response_interval": "1100",
		"bridge/multicast_startup_query_interval": "3000", "bridge/vlan_filtering": "1", "bridge/default_pvid": "7",
		"bridge/vlan_protocol": "0x88a8", "bridge/vlan_stats_enabled": "1",
	})
	later := keeper(t)
	settled(t, later, []assignment.Entry{file(t, "bridge", "br0", "[bridge]\nstp=false\nvlan-filtering=true\n")}, nil)
	has(t, "br0", map[string]string{"bridge/stp_state": "0", "bridge/priority": "32768", "bridge/ageing_time": "30000",
		"bridge/group_addr": "01:80:c2:00:00:00", "bridge/multicast_querier": "0", "bridge/default_pvid": "1"})
	settled(t, later, nil, nil)
	if there("br0") || !there("theirs") {
		t.Errorf("br0 is there: %v, that of somebody else: %v", there("br0"), there("theirs"))
	}
	settled(t, later, nil, nil)
	later.Ensure([]assignment.Entry{file(t, "bridge", "theirs", "[bridge]\nstp=true\n")}, nil)
	if why := later.Faults["bridge-theirs"]; !strings.Contains(why, "somebody else") {
		t.Errorf("the fault is %q", why)
	}
	has(t, "theirs", map[string]string{"bridge/stp_state": "0"})
}

// Ports of a bridge get their options, and only their vlans pass between them.
func TestBridgePorts(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "vlan")
	k := keeper(t)
	far := map[string]*linktest.Far{}
	assigned := map[int]assignment.Entry{}
	keys := "[bridge]\nstp=false\nvlan-filtering=true\nvlan-default-pvid=0\n"
	entries := []assignment.Entry{file(t, "bridge", "br0", keys)}
	settled(t, k, entries, nil)
	for _, p := range [][2]string{
		{"w0", "10 pvid untagged"}, {"w1", "10 pvid untagged, 20"}, {"w2", "20 pvid untagged"},
	} {
		far[p[0]] = linktest.Cable(t, p[0])
		far[p[0]].Up()
		near, err := netlink.LinkByName(p[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{netlink.LinkSetUp(near), netlink.LinkSetMasterByIndex(near, index(t, "br0"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		assigned[near.Attrs().Index] = file(t, "ethernet", p[0], "controller=br0\nport-type=bridge\n[bridge-port]\n"+
			"path-cost=50\npriority=16\nhairpin-mode=true\nvlans="+p[1]+"\n")
	}
	br, err := netlink.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(br); err != nil {
		t.Fatal(err)
	}
	settled(t, k, entries, assigned)
	has(t, "w0", map[string]string{"brport/path_cost": "50", "brport/priority": "16", "brport/hairpin_mode": "1"})
	same, other := listen(t, far["w1"], "10.9.0.2/24"), listen(t, far["w2"], "10.9.0.3/24")
	far["w0"].Address("10.9.0.1/24")
	testenv.WaitFor(t, "a packet within the vlan", func() bool {
		send(t, far["w0"], "10.9.0.1", "10.9.0.255")
		return received(same)
	})
	if received(other) {
		t.Error("a packet left its vlan")
	}
	// With another vlan for the first port, the packets go to the other one.
	keys = "controller=br0\nport-type=bridge\n[bridge-port]\nvlans=20 pvid untagged\n"
	assigned[index(t, "w0")] = file(t, "ethernet", "w0", keys)
	settled(t, k, entries, assigned)
	testenv.WaitFor(t, "a packet within the other vlan", func() bool {
		send(t, far["w0"], "10.9.0.1", "10.9.0.255")
		return received(other)
	})
}

// listen receives what is sent to port 7777 at a far end.
func listen(t *testing.T, f *linktest.Far, address string) *net.UDPConn {
	t.Helper()
	f.Address(address)
	var c *net.UDPConn
	f.Do(func() (err error) { c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 7777}); return err })
	t.Cleanup(func() { c.Close() })
	return c
}

// received reports whether a packet has come, and takes it.
func received(c *net.UDPConn) bool {
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, _, err := c.ReadFromUDP(make([]byte, 100))
	return err == nil
}

// send sends a packet from a far end, or from here if f is nil.
func send(t *testing.T, f *linktest.Far, from, to string) {
	t.Helper()
	do := func() error {
		remote := &net.UDPAddr{IP: net.ParseIP(to), Port: 7777}
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, remote)
		if err != nil {
			return err
		}
		defer c.Close()
		c.Write([]byte("hello")) // one that is lost is sent again
		return nil
	}
	if f != nil {
		f.Do(do)
	} else if err := do(); err != nil {
		t.Fatal(err)
	}
}

// Every mode and option of a bond reaches the kernel.
func TestBondOptions(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "bond")
	k := keeper(t)
	for mode, options := range map[string][][2]string{ // what the key file says, what sysfs says
		"balance-rr": {{"packets_per_slave=5", "5"}, {"lp_interval=2", "2"}, {"resend_igmp=3", "3"}},
		"active-backup": {{"miimon=50", "50"}, {"updelay=120", "100"}, {"downdelay=100", "100"},
			{"fail_over_mac=active", "active 1"}, {"num_grat_arp=4", "4"}, {"primary_reselect=better", "better 1"}},
		"balance-xor": {{"xmit_hash_policy=layer3+4", "layer3+4 1"}, {"min_links=1", "1"},
			{"all_slaves_active=1", "1"}},
		"broadcast": {{"arp_interval=500", "500"}, {"arp_ip_target=10.0.0.1,10.0.0.2", "10.0.0.1 10.0.0.2"},
			{"arp_all_targets=all", "all 1"}, {"arp_missed_max=4", "4"}},
		"802.3ad": {{"lacp_rate=fast", "fast 1"}, {"ad_select=count", "count 2"}, {"ad_actor_sys_prio=1000", "1000"},
			{"ad_user_port_key=5", "5"}, {"ad_actor_system=02:00:00:00:00:09", "02:00:00:00:00:09"}},
		"balance-tlb": {{"tlb_dynamic_lb=0", "0"}, {"xmit_hash_policy=layer2+3", "layer2+3 2"}},
		"balance-alb": {{"peer_notif_delay=200", "200"}},
	} {
		keys, want := "", map[string]string{}
		for _, o := range options {
			name, _, _ := strings.Cut(o[0], "=")
			keys += o[0] + "\n"
			want["bonding/"+name] = o[1]
		}
		settled(t, k, []assignment.Entry{file(t, "bond", "b0", "[bond]\nmode="+mode+"\n"+keys)}, nil)
		number := map[string]int{"balance-rr": 0, "active-backup": 1, "balance-xor": 2, "broadcast": 3, "802.3ad": 4,
			"balance-tlb": 5, "balance-alb": 6}[mode]
		want["bonding/mode"] = fmt.Sprint(mode, " ", number)
		has(t, "b0", want)
		// Without the options, everything is as usual again.
		settled(t, k, []assignment.Entry{file(t, "bond", "b0", "[bond]\nmode="+mode+"\n")}, nil)
		has(t, "b0", map[string]string{"bonding/miimon": "100", "bonding/arp_interval": "0", "bonding/min_links": "0"})
	}
}

// A bond changes to its other port when one fails, and back to the one that it prefers.
func TestBondFailover(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "bond")
	k := keeper(t)
	entries := []assignment.Entry{file(t, "bond", "b0", "[bond]\nmode=active-backup\nmiimon=20\nprimary=w1\n")}
	settled(t, k, entries, nil)
	assigned := map[int]assignment.Entry{}
	var far []*linktest.Far
	var ears []*net.UDPConn
	for i, name := range []string{"w0", "w1"} {
		f := linktest.Cable(t, name)
		f.Up()
		near, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{netlink.LinkSetMasterByIndex(near, index(t, "b0")), netlink.LinkSetUp(near)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		keys := fmt.Sprintf("controller=b0\nport-type=bond\n[bond-port]\nqueue-id=%d\nprio=%d\n", i+1, 10*i)
		assigned[near.Attrs().Index] = file(t, "ethernet", name, keys)
		far, ears = append(far, f), append(ears, listen(t, f, "10.9.0.9/24"))
	}
	settled(t, k, entries, assigned)
	has(t, "b0", map[string]string{"bonding/primary": "w1"})
	has(t, "w0", map[string]string{"bonding_slave/queue_id": "1"})
	b0, err := netlink.LinkByName("b0")
	if err != nil {
		t.Fatal(err)
	}
	address, _ := netlink.ParseAddr("10.9.0.5/24")
	for _, err := range []error{netlink.LinkSetUp(b0), netlink.AddrAdd(b0, address)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	through := func(what string, port int) {
		t.Helper()
		testenv.WaitFor(t, what, func() bool {
			send(t, nil, "10.9.0.5", "10.9.0.255")
			return received(ears[port])
		})
	}
	through("packets through the preferred port", 1)
	far[1].Down()
	through("packets through the other port", 0)
	far[1].Up()
	through("packets through the preferred port again", 1)
	settled(t, k, nil, nil)
	if there("b0") {
		t.Error("b0 is still there")
	}
}

// Packets with the vlan's tag, and no others, come and go through a vlan; flags and priorities reach the kernel.
func TestVLAN(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "vlan")
	k := keeper(t)
	far := linktest.Cable(t, "w0")
	keys := "[vlan]\nid=5\nparent=w0\nflags=5\negress-priority-map=0:3;1:4\ningress-priority-map=2:7\n"
	entries := []assignment.Entry{file(t, "vlan", "v5", keys)}
	settled(t, k, entries, nil)
	l, err := netlink.LinkByName("v5")
	if err != nil {
		t.Fatal(err)
	}
	v, is := l.(*netlink.Vlan)
	if !is || v.VlanId != 5 || !*v.ReorderHdr || !*v.LooseBinding || *v.Gvrp || v.IngressQosMap[2] != 7 ||
		v.EgressQosMap[0] != 3 || v.EgressQosMap[1] != 4 {
		t.Errorf("the kernel has %+v", l)
	}
	far.Up()
	far.Do(func() error {
		l := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "fv", ParentIndex: far.Index}, VlanId: 5,
			VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		address, _ := netlink.ParseAddr("10.9.5.1/24")
		for _, do := range []func() error{
			func() error { return netlink.LinkAdd(l) }, func() error { return netlink.LinkSetUp(l) },
			func() error { return netlink.AddrAdd(l, address) },
		} {
			if err := do(); err != nil {
				return err
			}
		}
		return nil
	})
	ear := listen(t, far, "10.9.0.1/24")
	for name, address := range map[string]string{"w0": "10.9.0.2/24", "v5": "10.9.5.2/24"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := netlink.ParseAddr(address)
		for _, err := range []error{netlink.LinkSetUp(l), netlink.AddrAdd(l, a)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	testenv.WaitFor(t, "a packet through the vlan", func() bool {
		send(t, nil, "10.9.5.2", "10.9.5.1")
		return received(ear)
	})

	// The map changes, which takes a new link; the parent goes and comes back.
	entries[0] = file(t, "vlan", "v5", "[vlan]\nid=5\nparent=w0\n")
	settled(t, k, entries, nil)
	settled(t, k, []assignment.Entry{file(t, "vlan", "v5", "[vlan]\nid=6\nparent=w0\nprotocol=802.1ad\n")}, nil)
	w0, err := netlink.LinkByName("w0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(w0); err != nil {
		t.Fatal(err)
	}
	k.Ensure(entries, nil)
	if k.Faults["vlan-v5"] != "waits for the link w0" {
		t.Errorf("faults %v", k.Faults)
	}
	linktest.Cable(t, "w0")
	settled(t, k, entries, nil)
	if !there("v5") {
		t.Error("the vlan is not there again")
	}
}

// A dummy, a wireguard link and a vlan on a bond that the same plan creates.
func TestOthers(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.NeedKinds(t, "dummy", "wireguard", "vlan", "bond")
	k := keeper(t)
	entries := []assignment.Entry{file(t, "dummy", "d0", ""),
		file(t, "wireguard", "wg0", "[wireguard]\nlisten-port=5\n"),
		file(t, "vlan", "a5", "[vlan]\nid=5\nparent=b0\n"), file(t, "bond", "b0", "")}
	settled(t, k, entries, nil)
	for _, name := range []string{"d0", "wg0", "a5", "b0"} {
		if !there(name) {
			t.Errorf("%s is not there", name)
		}
	}
	settled(t, keeper(t), entries[:1], nil)
	for name, want := range map[string]bool{"d0": true, "wg0": false, "a5": false, "b0": false} {
		if there(name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
}
