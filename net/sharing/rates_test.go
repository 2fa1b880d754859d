package sharing

import (
	"os/exec"
	"testing"

	"resinos/mounts/testenv"
	"resinos/net/filter"
	"resinos/net/link/linktest"
	"resinos/net/ruleset"
)

// TestSharedRates measures transfers of a guest through a shared link by our tables, with the packet filter of
// production, through the same two links by iptables as NetworkManager sets it for method=shared, and by the kernel's
// forwarding without any rule, in turns. It judges that all bytes come; docs/bench.md has the figures.
func TestSharedRates(t *testing.T) {
	if !testenv.Figures() {
		t.Skip("set RESINOS_BENCH=1: make bench-tunnels")
	}
	testenv.NeedPrograms(t, "iptables", "ip", "nft", "busybox")
	if !linktest.Isolate(t) {
		return
	}
	const rounds, size = 21, 256 << 20
	w := newWorld(t)
	w.client()
	w.uplink.Do(func() error { return linktest.Stream(t, ":98", size) })
	rates := map[string]linktest.Rates{}
	measure := func(name string) {
		t.Helper()
		w.far.Do(func() error {
			rate, err := linktest.Receive("10.50.0.2:98", size)
			rates[name] = append(rates[name], rate)
			return err
		})
	}
	back := func(what string) { // without rules the server needs a way back
		w.uplink.Do(func() error { return exec.Command("ip", "route", what, "10.42.0.0/24", "via", "10.50.0.1").Run() })
	}
	stock := [][]string{
		{"-t", "nat", "-A", "POSTROUTING", "-s", "10.42.0.0/24", "!", "-d", "10.42.0.0/24", "-j", "MASQUERADE"},
		{"-P", "FORWARD", "DROP"},
		{"-A", "FORWARD", "-d", "10.42.0.0/24", "-o", "sh0", "-m", "state", "--state", "ESTABLISHED,RELATED", "-j",
			"ACCEPT"},
		{"-A", "FORWARD", "-s", "10.42.0.0/24", "-i", "sh0", "-j", "ACCEPT"},
		{"-A", "FORWARD", "-i", "sh0", "-o", "sh0", "-j", "ACCEPT"},
		{"-A", "FORWARD", "-o", "sh0", "-j", "REJECT"},
		{"-A", "FORWARD", "-i", "sh0", "-j", "REJECT"},
	}
	wish := filter.Wish{Closed: true, Links: []string{"up0", "sh0"}, Shared: []string{"sh0"}}
	w.stop() // its tables stay
	ours := Plan([]Link{w.link})
	tables := append(ours[:], filter.Plan(wish))
	for range rounds {
		if err := ruleset.Apply(tables); err != nil {
			t.Fatal(err)
		}
		measure("ours")
		testenv.Run(t, "nft", "flush", "ruleset")
		back("add")
		measure("none")
		back("del")
		for _, rule := range stock {
			testenv.Run(t, "iptables", rule...)
		}
		measure("iptables")
		testenv.Run(t, "nft", "flush", "ruleset")
	}
	for name, r := range rates {
		t.Logf("shared link, %-8s %s", name, r)
	}
}
