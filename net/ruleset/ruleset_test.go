package ruleset

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// everything is a table with each part.
func everything() Table {
	four := Meter{Name: "four", Size: 1000, Idle: time.Minute}
	six := Meter{Name: "six", Six: true, Size: 10, Idle: time.Minute}
	net4, one4 := netip.MustParsePrefix("10.42.3.0/24"), netip.MustParsePrefix("127.0.0.1/32")
	net6 := netip.MustParsePrefix("fe80::/10")
	return Table{Family: Inet, Name: "resinos-test", Meters: []Meter{four, six}, Chains: []Chain{
		{Name: "below", Rules: []Rule{{Do("drop")}}},
		{Name: "input", Kind: "filter", Hook: "input", Priority: -10, Rules: []Rule{
			{In("eth1"), From(net4), Do("accept")},
			{NotIn("lo"), To(one4), Do("drop")},
			{From(net6), Do("accept")},
			{IsIPv4(), NoWayBack(), Do("drop")},
			{IsIPv6(), Do("jump below")},
			{DestinationIs("local"), Port("udp", 67, 67), Do("accept")},
			{SourceIs("broadcast"), Do("drop")},
			{Port("tcp", 100, 200), Do("return")},
			{ICMP(false), Do("accept")},
			{EchoRequest(false), Over(Rate{Packets: 10, Burst: 20}), Do("drop")},
			{EchoRequest(true), Over(Rate{Packets: 10, Burst: 20}), Do("drop")},
			{Connection("established", "related"), Do("accept")},
			{Connection("new"), Port("tcp", 22222, 22222), OverEach(four, Rate{Packets: 10, Minute: true, Burst: 5}),
				Do("drop")},
			{Port("tcp", 22222, 22222), OverEach(six, Rate{Packets: 10, Minute: true, Burst: 5}), Do("drop")},
			{Redirected(), Do("accept")},
			{Marked(1 << 28), Do("accept")},
		}},
		{Name: "forward", Kind: "filter", Hook: "forward", Priority: -10, Rules: []Rule{
			{InVirtual(), Do("accept")},
			{In("net-*"), Do("accept")},
			{OutVirtual(), Out("eth1"), Mark(1 << 28), Do("accept")},
		}},
		{Name: "postrouting", Kind: "nat", Hook: "postrouting", Priority: 100, Rules: []Rule{
			{From(net4), NotTo(net4), Do("masquerade")},
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
				t.Fatalf("line %d differs\nnft:\n%s\nprinted:\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
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
	wrong.Chains = append(wrong.Chains, Chain{Name: "wrong", Rules: []Rule{{Do("jump nowhere")}}})
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
