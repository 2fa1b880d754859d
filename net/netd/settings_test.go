package netd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/net/link/linktest"
	"resinos/net/resolv"
	"resinos/services/settings"
)

func TestWishedServers(t *testing.T) {
	at := func(texts ...string) (list []netip.Addr) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	for _, tt := range []struct {
		name, servers string
		from          settings.From
		leased, want  string
	}{
		{"the owner's come first", `["1.1.1.1"]`, settings.File, "10.0.0.1", "1.1.1.1 10.0.0.1"},
		{"and leave a place", `["1.1.1.1","2.2.2.2","3.3.3.3"]`, settings.File, "10.0.0.1", "1.1.1.1 2.2.2.2 10.0.0.1"},
		{"where nobody needs it", `["1.1.1.1","2.2.2.2","3.3.3.3"]`, settings.File, "", "1.1.1.1 2.2.2.2 3.3.3.3"},
		{"none", `[]`, settings.File, "10.0.0.1", "10.0.0.1"},
		{"the default stands back", `["8.8.8.8"]`, settings.Default, "10.0.0.1", "10.0.0.1"},
		{"and stands in", `["8.8.8.8"]`, settings.Default, "", "8.8.8.8"},
	} {
		s := settings.Settings{Values: map[string]settings.Value{"dnsServers": {JSON: json.RawMessage(tt.servers),
			From: tt.from}}}
		leased := []resolv.Source{{Link: "w0", Metric: 100, Servers: at(strings.Fields(tt.leased)...)}}
		var got []string
		for line := range strings.Lines(string(resolv.Render(wishOf(s).sources(leased), netip.Addr{}))) {
			if server, ok := strings.CutPrefix(line, "nameserver "); ok {
				got = append(got, strings.TrimSpace(server))
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: servers are %q, want %s", tt.name, got, tt.want)
		}
	}
}

// TestSettings: what the owner changes is in force at once, and the address stays.
func TestSettings(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := newDevice(t)
	d.dnsmasq(smallRange, "--dhcp-option=option:dns-server,10.9.0.1")
	d.settings = filepath.Join(d.dir, "run", "config.json")
	publish := func(hostname, servers string) {
		t.Helper()
		_, err := settings.Publish(d.settings, settings.Settings{Values: map[string]settings.Value{
			"hostname":   {JSON: json.RawMessage(fmt.Sprintf("%q", hostname)), From: settings.File},
			"dnsServers": {JSON: json.RawMessage(servers), From: settings.File},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) func() bool {
		return func() bool {
			text, err := os.ReadFile(filepath.Join(d.dir, "dnsmasq.leases"))
			return err == nil && strings.Contains(string(text), " "+name+" ")
		}
	}
	publish("first", `["192.0.2.1"]`)
	d.start()
	l := d.lease()
	d.eventually("the first name", named("first"))
	publish("second", `["192.0.2.2"]`)
	d.eventually("the second name", named("second"))
	d.eventually("the new server",
		func() bool { return strings.Contains(d.resolv(), "nameserver 192.0.2.2\nnameserver 10.9.0.1\n") })
	if got := linktest.Addresses(t, "w0"); len(got) != 1 || got[0] != l.Address.String() ||
		strings.Contains(d.log.String(), "lease dropped") {
		t.Errorf("addresses are %q, want %s all along", got, l.Address)
	}
	taken, err := settings.AllTaken(d.settings)
	if err != nil || len(taken["dnsServers"]) != 1 || taken["dnsServers"][0].Daemon != "netd" {
		t.Errorf("taken is %+v, %v", taken, err)
	}
}
