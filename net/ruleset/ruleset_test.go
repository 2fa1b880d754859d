package ruleset

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/ruleset/part"
)

// everything is a table with each part.
func everything() Table {
	four := part.Meter{Name: "four", Size: 1000, Idle: time.Minute}
	six := part.Meter{Name: "six", Six: true, Size: 10, Idle: time.Minute}
	net4, one4 := netip.MustParsePrefix("10.42.3.0/24"), netip.MustParsePrefix("127.0.0.1/32")
	ten, few := part.Rate{Packets: 10, Burst: 20}, part.Rate{Packets: 10, Minute: true, Burst: 5}
	net6 := netip.MustParsePrefix("fe80::/10")
	return Table{Family: Inet, Name: "resinos-test", Meters: []part.Meter{four, six}, Chains: []Chain{
		{Name: "below", Rules: []Rule{{part.Do("drop")}}},
		{Name: "input", Kind: "filter", Hook: "input", Priority: -10, Rules: []Rule{
			{part.In("eth1"), part.From(net4), part.Do("accept")},
			{part.NotIn("lo"), part.To(one4), part.Do("drop")},
			{part.From(net6), part.Do("accept")},
			{part.NoWayBack(), part.Do("drop")},
			{part.WayBack("net-*"), part.Do("jump below")},
			{part.WayBack("eth1"), part.Do("drop")},
			{part.Kind("daddr", "local"), part.Port("udp", 67, 67), part.Do("accept")},
			{part.Kind("saddr", "broadcast"), part.Do("drop")},
			{part.Port("tcp", 100, 200), part.Do("return")},
			{part.Protocol("icmp"), part.Do("accept")},
			{part.Protocol("igmp"), part.Do("accept")},
			{part.EchoRequest(false), part.Over(ten), part.Do("drop")},
			{part.EchoRequest(true), part.Over(ten), part.Do("drop")},
			{part.Connection("established", "related"), part.Do("accept")},
			{part.Connection("new"), part.Port("tcp", 22222, 22222), part.OverEach(four, few),
				part.Do("drop")},
			{part.Port("tcp", 22222, 22222), part.OverEach(six, few), part.Do("drop")},
			{part.Marked(1 << 28), part.Do("accept")},
		}},
		{Name: "forward", Kind: "filter", Hook: "forward", Priority: -10, Rules: []Rule{
			{part.Virtual("iif"), part.Do("accept")},
			{part.In("net-*"), part.Do("accept")},
			{part.Virtual("oif"), part.Out("eth1"), part.Mark(1 << 28), part.Do("accept")},
		}},
		{Name: "postrouting", Kind: "nat", Hook: "postrouting", Priority: 100, Rules: []Rule{
			{part.From(net4), part.NotTo(net4), part.Do("masquerade")},
		}},
		{Name: "output", Kind: "nat", Hook: "output", Priority: -90, Rules: []Rule{
			{part.Protocol("tcp"), part.Do("redirect to :12345")},
			{part.Port("udp", 53, 53), part.Do("redirect to :5313")},
		}},
	}}
}

// nft lists a table of the kernel.
func nft(t *testing.T, table Table) string {
	t.Helper()
	return testenv.Run(t, "nft", "--numeric-priority", "list", "table", string(table.Family), table.Name)
}

// TestKernelHasWhatIsPrinted: Debian's nft reads from the kernel the very words that String prints.
func TestKernelHasWhatIsPrinted(t *testing.T) {
	testenv.NeedProgram(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	table := everything()
	for range 2 { // twice is as once
		if err := Apply([]Table{table}); err != nil {
			t.Fatal(err)
		}
		got, want := strings.Split(plain(nft(t, table)), "\n"), strings.Split(plain(table.String()), "\n")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("line %d differs\nnft:\n%s\nprinted:\n%s", i, strings.Join(got, "\n"),
					strings.Join(want, "\n"))
			}
		}
	}
	if !There(table) {
		t.Error("table not found")
	}
	if err := Apply(nil, table); err != nil || There(table) {
		t.Errorf("table not removed: %v", err)
	}
}

// plain drops what nft writes differently without meaning it.
func plain(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// TestRefusedWhole: a rule that the kernel refuses changes nothing, and tables of others stay.
func TestRefusedWhole(t *testing.T) {
	testenv.NeedProgram(t, "nft")
	if !linktest.Isolate(t) {
		return
	}
	testenv.Run(t, "nft", "table inet other { chain x { type filter hook input priority 0; }; }")
	table := everything()
	if err := Apply([]Table{table}); err != nil {
		t.Fatal(err)
	}
	before := nft(t, table)
	wrong := table
	wrong.Chains = append(wrong.Chains, Chain{Name: "wrong", Rules: []Rule{{part.Do("jump nowhere")}}})
	if err := Apply([]Table{wrong}); err == nil {
		t.Error("a jump to nowhere is accepted")
	}
	if after := nft(t, table); after != before {
		t.Errorf("a refused table changed the old one:\n%s", after)
	}
	if list := testenv.Run(t, "nft", "list", "tables"); !strings.Contains(list, "table inet other") {
		t.Errorf("the table of others is gone: %s", list)
	}
}

// TestLoaded: sockets of other protocols, the headline and lines that are cut do not count.
func TestLoaded(t *testing.T) {
	const head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
	const route = "00000000a2bba7ad 0   12         00000012 0        0        0     2        0        12      \n"
	const netfilter = "000000000c54ab59 12  0          00000000 0        0        0     2        0        1586    \n"
	for text, want := range map[string]bool{
		"": false, head: false, head + route: false, head + route + "0000": false, head + route + netfilter: true,
	} {
		if got := loaded(text); got != want {
			t.Errorf("loaded(%q) = %v, want %v", text, got, want)
		}
	}
}
