package netd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// A server sees the client as the key file presents it, and one that the file refuses is not listened to.
func TestKeyFileIdentity(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	file := func(rest string) string {
		return "[connection]\nid=auto\ntype=ethernet\ninterface-name=w0\n[ipv4]\nmethod=auto\n" + rest
	}
	d.put("auto", file("dhcp-reject-servers=10.9.0.0/28\n"))
	server := d.dnsmasq("--dhcp-range=10.9.0.60,10.9.0.60,255.255.255.0,2m")
	d.start()
	d.eventually("the refused server's offer", func() bool {
		return strings.Contains(d.log.String(), "from a server that the profile refuses")
	})
	if got := linktest.Addresses(t, "w0"); len(got) > 0 {
		t.Errorf("addresses %v", got)
	}
	d.put("auto", file("dhcp-client-id=01:02:03:04:05:06:07\ndhcp-vendor-class-identifier=acme\n"+
		"dhcp-fqdn=dev.example.com\ndad-timeout=0\nlink-local=3\n"))
	d.lease()
	d.eventually("both addresses", func() bool {
		list := linktest.Addresses(t, "w0")
		return slices.Contains(list, "10.9.0.60/24") && slices.ContainsFunc(list, func(a string) bool {
			return strings.HasPrefix(a, "169.254.")
		})
	})
	leases, err := os.ReadFile(filepath.Join(d.dir, "dnsmasq.leases"))
	if err != nil || !strings.Contains(string(leases), " 01:02:03:04:05:06:07") {
		t.Errorf("the server's leases are %q, %v", leases, err)
	}
	for _, want := range []string{"vendor class: acme", "client provides name: dev.example.com"} {
		if got := fmt.Sprint(server.Stderr); !strings.Contains(got, want) {
			t.Errorf("the server does not see %q", want)
		}
	}
}

// Settings that a link gets once, and those of IPv6 that are not addresses.
func TestKeyFileCard(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.put("card", "[connection]\nid=card\ntype=ethernet\ninterface-name=w0\nmdns=0\n"+
		"[ethernet]\naccept-all-mac-addresses=1\nwake-on-lan=64\n[ipv4]\nmethod=disabled\n"+
		"[ipv6]\nmethod=auto\naddr-gen-mode=eui64\ntoken=::5\nmtu=1300\ndad-timeout=0\n")
	silent := make(chan []string, 100)
	d.silent = func(links []string) { silent <- links }
	d.start()
	d.eventually("the promiscuous link", func() bool {
		l, err := netlink.LinkByName("w0")
		return err == nil && l.Attrs().Promisc == 1
	})
	d.eventually("the token", func() bool {
		return testenv.Run(t, "ip", "token", "get", "dev", "w0") == "token ::5 dev w0"
	})
	for name, want := range map[string]string{"mtu": "1300", "dad_transmits": "0"} {
		d.eventually(name, func() bool {
			text, err := os.ReadFile("/proc/sys/net/ipv6/conf/w0/" + name)
			return err == nil && strings.TrimSpace(string(text)) == want
		})
	}
	d.eventually("what the driver cannot do", func() bool {
		return strings.Contains(d.log.String(), "w0: set wake-on-lan 0x20: the card or its driver cannot do that")
	})
	d.eventually("silence on the link", func() bool {
		return slices.Equal(testenv.Receive(t, "silent links", silent), []string{"w0"})
	})
}

// Profiles that do not come up by themselves come up with their bridge, and with the profile that names them; and go
// with these.
func TestKeyFileCompanions(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	linktest.Cable(t, "w2").Up()
	const uuid = "27afa607-ee36-43f0-b8c3-9d245cdc4bb3"
	d.put("br", "[connection]\nid=br\ntype=bridge\ninterface-name=br7\nautoconnect-ports=1\n[bridge]\nstp=false\n"+
		"[ipv4]\nmethod=manual\naddress1=10.9.0.70/24\n")
	d.put("port", "[connection]\nid=port\ntype=ethernet\ninterface-name=w1\ncontroller=br7\nport-type=bridge\n"+
		"autoconnect=false\n")
	first := "[connection]\nid=first\ntype=ethernet\ninterface-name=w0\nsecondaries=" + uuid + ";\n" +
		"[ipv4]\nmethod=manual\naddress1=10.9.1.1/24\n"
	d.put("first", first)
	d.put("second", "[connection]\nid=second\nuuid="+uuid+"\ntype=ethernet\ninterface-name=w2\nautoconnect=false\n"+
		"[ipv4]\nmethod=manual\naddress1=10.9.2.1/24\n")
	d.start()
	port := func() bool {
		l, err := netlink.LinkByName("w1")
		return err == nil && l.Attrs().MasterIndex != 0
	}
	d.eventually("the port in the bridge", port)
	d.has("w0", "10.9.1.1/24")
	d.has("w2", "10.9.2.1/24")
	d.put("first", strings.ReplaceAll(first, "secondaries", "#"))
	d.has("w2")
	if err := os.Remove(filepath.Join(d.keyFiles, "br")); err != nil {
		t.Fatal(err)
	}
	d.eventually("the port without a bridge", func() bool { return !port() })
}

// Name servers of a negative priority are asked alone; options reach resolv.conf.
func TestKeyFileNameServers(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	linktest.Cable(t, "w1").Up()
	file := func(link, n, rest string) {
		d.put(link, "[connection]\nid="+link+"\ntype=ethernet\ninterface-name="+link+"\n"+
			"[ipv4]\nmethod=manual\naddress1=10.9."+n+".1/24\ndns=10.9."+n+".53;\n"+rest)
	}
	file("w0", "0", "dns-options=ndots:2;\n")
	file("w1", "1", "dns-priority=50\n")
	d.start()
	d.eventually("both servers, the one with the priority first", func() bool {
		text := d.resolv()
		return strings.Contains(text, "nameserver 10.9.1.53\nnameserver 10.9.0.53\n") &&
			strings.Contains(text, "options ndots:2\n")
	})
	file("w1", "1", "dns-priority=-1\n")
	d.eventually("one server", func() bool {
		text := d.resolv()
		return strings.Contains(text, "nameserver 10.9.1.53\n") && !strings.Contains(text, "10.9.0.53")
	})
}
