package assignment

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"resinos/mounts/testenv"
	"resinos/net/link"
	"resinos/net/profilecheck"
)

// What a fresh link gets of every key file that NetworkManager accepts.
func TestPlanOfEachKeyFile(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("..", "profilecheck", "testdata", "accepted.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range archive.Files {
		p, _, err := profilecheck.Read(f.Name, f.Data)
		if err != nil {
			t.Fatal(err)
		}
		name := p.Connection.InterfaceName
		if name == "" {
			name = "eth0"
		}
		l := link.Link{Index: 2, Name: name, Kind: link.Wired, MTU: 1500,
			Hardware: "52:54:00:12:34:56", Burnt: "52:54:00:12:34:56"}
		s := For(p, l, 102, "boot")
		ipv6 := map[string]string{"disable_ipv6": "0", "accept_ra": "1", "addr_gen_mode": "0", "use_tempaddr": "0"}
		fmt.Fprintf(&b, "# %s\n", f.Name)
		for _, step := range link.Plan(s.Wanted, link.Actual{Link: l, IPv6: ipv6}) {
			fmt.Fprintln(&b, step)
		}
		for _, r := range s.Rules {
			fmt.Fprintln(&b, "put rule", r)
		}
		if s.DHCP {
			fmt.Fprintln(&b, "dhcp, metric", s.Metric)
		}
		if len(s.DNS)+len(s.Search) > 0 {
			fmt.Fprintln(&b, "name servers", s.DNS, "search", s.Search)
		}
		if s.Waiting != "" {
			fmt.Fprintln(&b, "waits:", s.Waiting)
		}
		for _, n := range s.Notes {
			fmt.Fprintln(&b, "note:", n)
		}
	}
	testenv.Golden(t, "plans.golden", b.String())
}

func entry(t *testing.T, file, text string) Entry {
	t.Helper()
	p, _, err := profilecheck.Read(file, []byte("[connection]\ntype=ethernet\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return Entry{file, p}
}

func TestAssign(t *testing.T) {
	eth := func(index int, name string) link.Link {
		return link.Link{Index: index, Name: name, Kind: link.Wired, Driver: "e1000e",
			Burnt: fmt.Sprintf("52:54:00:00:00:%02X", index), Path: "pci-0000:00:0" + fmt.Sprint(index)}
	}
	two := []link.Link{eth(2, "eth0"), eth(3, "eth1")}
	veth := link.Link{Index: 9, Name: "veth0", Kind: link.Virtual, Type: "veth"}
	for _, tt := range []struct {
		name  string
		files []string
		state State
		want  string
	}{
		{"none", nil, State{Links: two}, ""},
		{"one for any", []string{""}, State{Links: two}, "2=f0"},
		{"one for many", []string{"multi-connect=3\n"}, State{Links: two}, "2=f0 3=f0"},
		{"by name", []string{"", "interface-name=eth0\n"}, State{Links: two}, "2=f1 3=f0"},
		{"by hardware address", []string{"", "[ethernet]\nmac-address=52:54:00:00:00:03\n"}, State{Links: two},
			"2=f0 3=f1"},
		{"denied", []string{"[ethernet]\nmac-address-blacklist=52:54:00:00:00:02\n"}, State{Links: two}, "3=f0"},
		{"by priority", []string{"interface-name=eth0\n", "autoconnect-priority=5\n"}, State{Links: two}, "2=f1"},
		{"not by itself", []string{"autoconnect=false\n"}, State{Links: two}, ""},
		{"brought up", []string{"autoconnect=false\n"}, State{Links: two, Up: map[string]bool{"f0": true}}, "2=f0"},
		{"taken down", []string{"", "interface-name=eth1\n"}, State{Links: two, Down: map[string]bool{"f1": true}},
			"2=f0"},
		{"kept by its link", []string{""}, State{Links: two, Held: map[int]string{3: "f0"}}, "3=f0"},
		{"pattern", []string{"[match]\ninterface-name=eth*;!eth0;\n"}, State{Links: two}, "3=f0"},
		{"driver", []string{"[match]\ndriver=virtio*;\n"}, State{Links: two}, ""},
		{"path", []string{"[match]\npath=pci-0000:00:03;\n"}, State{Links: two}, "3=f0"},
		{"command line", []string{"[match]\nkernel-command-line=&quiet;!debug;\n"},
			State{Links: two, CommandLine: []string{"quiet", "root=x"}}, "2=f0"},
		{"other command line", []string{"[match]\nkernel-command-line=&quiet;!debug;\n"},
			State{Links: two, CommandLine: []string{"quiet", "debug"}}, ""},
		{"a container's link", []string{""}, State{Links: []link.Link{veth}}, ""},
		{"a virtual link by name", []string{"interface-name=veth0\n"}, State{Links: []link.Link{veth}}, "9=f0"},
		{"same rank, by file", []string{"", ""}, State{Links: two}, "2=f0 3=f1"},
	} {
		var entries []Entry
		for i, text := range tt.files {
			entries = append(entries, entry(t, fmt.Sprintf("f%d", i), text))
		}
		got := Assign(entries, tt.state)
		var b []string
		for _, index := range slices.Sorted(maps.Keys(got)) {
			b = append(b, fmt.Sprintf("%d=%s", index, got[index].File))
		}
		if s := strings.Join(b, " "); s != tt.want {
			t.Errorf("%s: Assign = %q, want %q", tt.name, s, tt.want)
		}
	}
}

// An address that is invented is one that anybody may use, is never the same on two devices, and stays.
func TestInvented(t *testing.T) {
	e := entry(t, "f", "[ethernet]\ncloned-mac-address=stable\n")
	r := entry(t, "f", "[ethernet]\ncloned-mac-address=random\n")
	l := link.Link{Name: "eth0", Burnt: "52:54:00:12:34:56"}
	other := l
	other.Burnt = "52:54:00:12:34:57"
	stable := For(e.Profile, l, 1, "boot 1").Wanted.Hardware
	if again := For(e.Profile, l, 1, "boot 2").Wanted.Hardware; again != stable || stable == "" {
		t.Errorf("stable: %s, then %s", stable, again)
	}
	if For(e.Profile, other, 1, "boot 1").Wanted.Hardware == stable {
		t.Errorf("two devices have %s", stable)
	}
	if a, b := For(r.Profile, l, 1, "1").Wanted.Hardware, For(r.Profile, l, 1, "2").Wanted.Hardware; a == b {
		t.Errorf("random: %s in two boots", a)
	}
	if c := stable[1]; !strings.ContainsRune("26ae", rune(c)) {
		t.Errorf("%s is not locally administered, or a group", stable)
	}
}
