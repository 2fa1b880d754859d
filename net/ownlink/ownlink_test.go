package ownlink

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"resinos/mounts/testenv"
	"resinos/net/assignment"
	"resinos/net/profile"
	"resinos/net/profilecheck"
)

func entry(t testing.TB, file string, text []byte) assignment.Entry {
	t.Helper()
	p, _, err := profilecheck.Read(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return assignment.Entry{File: file, Profile: p}
}

// report is what a plan says.
func report(r Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintln(&b, s)
	}
	for _, file := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(&b, "fault of %s: %s\n", file, r.Faults[file])
	}
	return b.String()
}

// What every key file that NetworkManager accepts asks for: first the link, then, of the link that is there, each of
// its options.
func TestPlanOfEachKeyFile(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("..", "profilecheck", "testdata", "accepted.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range archive.Files {
		e := entry(t, f.Name, f.Data)
		ports := e.Profile.Connection.PortType != ""
		if !assignment.Creates(e.Profile) && !ports {
			continue
		}
		fmt.Fprintf(&b, "# %s\n", f.Name)
		actual := []Actual{{Index: 2, Name: "eth0", Hardware: "52:54:00:12:34:56"}}
		if ports {
			actual[0].Master = 9
			actual = append(actual, Actual{Index: 9, Name: "br0", Kind: e.Profile.Connection.PortType})
			b.WriteString(report(Plan(nil, map[int]assignment.Entry{2: e}, actual)))
			continue
		}
		entries := []assignment.Entry{e}
		b.WriteString(report(Plan(entries, nil, actual)))
		there := Actual{Index: 9, Name: e.Profile.LinkName(), Kind: e.Profile.Connection.Type, Ours: true, Parent: 2}
		b.WriteString(report(Plan(entries, nil, append(actual, there))))
	}
	testenv.Golden(t, "plans.golden", b.String())
}

// What people see of a plan: the link, and the options that are not the usual ones.
func TestFresh(t *testing.T) {
	for text, want := range map[string]string{
		"type=ethernet\n": "",
		"type=bridge\ninterface-name=br0\n[bridge]\nstp=false\npriority=4096\n": "create bridge br0|" +
			"br0: set stp false|br0: set priority 4096",
		"type=bond\ninterface-name=b0\n[bond]\nmode=active-backup\nmiimon=50\n": "create bond b0, " +
			"mode active-backup, fail_over_mac none|b0: set miimon 50",
		"type=vlan\n[vlan]\nparent=eth0\nid=5\n": "create vlan eth0.5, id 5, protocol 802.1Q",
		"type=vlan\n[vlan]\nparent=eth0\nid=5\nflags=3\n": "create vlan eth0.5, id 5, protocol 802.1Q|" +
			"eth0.5: set flags 3",
		"type=dummy\ninterface-name=d0\n": "create dummy d0",
	} {
		got := strings.Join(Fresh(entry(t, "x", []byte("[connection]\n"+text))), "|")
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Links of others, links that nobody asks for any more, two profiles for one link, parents that are not there.
func TestPlanOfSpecialCases(t *testing.T) {
	file := func(kind, name, rest string) assignment.Entry {
		return entry(t, kind+"-"+name, []byte("[connection]\ntype="+kind+"\ninterface-name="+name+"\n"+rest))
	}
	eth0 := Actual{Index: 2, Name: "eth0", Hardware: "52:54:00:12:34:56"}
	filters := []byte{1}
	for _, c := range []struct {
		about   string
		entries []assignment.Entry
		actual  []Actual
		want    string
	}{
		{"a link of somebody else", []assignment.Entry{file("dummy", "d0", "")},
			[]Actual{{Index: 3, Name: "d0", Kind: "dummy"}},
			"fault of dummy-d0: create dummy d0: somebody else has a link with this name, which stays as it is\n"},
		{"ours that nobody asks for", nil,
			[]Actual{{Index: 3, Name: "d0", Kind: "dummy", Ours: true}, {Index: 4, Name: "br-1", Kind: "bridge"}},
			"remove dummy d0\n"},
		{"another kind", []assignment.Entry{file("dummy", "x0", "")},
			[]Actual{{Index: 3, Name: "x0", Kind: "wireguard", Ours: true}}, "remove wireguard x0\ncreate dummy x0\n"},
		{"another mode", []assignment.Entry{file("bond", "b0", "[bond]\nmode=active-backup\n")},
			[]Actual{{Index: 3, Name: "b0", Kind: "bond", Ours: true, options: map[uint16][]byte{1: {0}, 13: {0}}}},
			"remove bond b0\ncreate bond b0, mode active-backup, fail_over_mac none\n"},
		{"two for one link", []assignment.Entry{file("dummy", "d0", ""), file("bridge", "d0", "")}, nil,
			"create dummy d0\nfault of bridge-d0: create bridge d0: dummy-d0 asks for a link with this name too\n"},
		{"a parent that is not there", []assignment.Entry{file("vlan", "v0", "[vlan]\nid=5\nparent=eth7\n")}, nil,
			"fault of vlan-v0: waits for the link eth7\n"},
		{"a parent by address", []assignment.Entry{
			file("vlan", "v0", "[vlan]\nid=5\n[ethernet]\nmac-address=52:54:00:12:34:56\n")}, []Actual{eth0},
			"create vlan v0, id 5, protocol 802.1Q\n"},
		{"the first vlan of ports, while vlans are filtered", []assignment.Entry{
			file("bridge", "br0", "[bridge]\nstp=false\nvlan-filtering=true\nvlan-default-pvid=7\n")},
			[]Actual{{Index: 3, Name: "br0", Kind: "bridge", Ours: true,
				options: with(bridgeOptions(bridge(t, "vlan-filtering=true\n")), map[uint16][]byte{filtering: filters}),
				vlans:   []vlan{{1, 1, true, true}}}},
			"br0: set vlan-filtering false\nbr0: set vlan-default-pvid 7\nbr0: set vlan-filtering true\n" +
				"br0: drop vlans 1 pvid untagged\nbr0: put vlans 7 pvid untagged\n"},
	} {
		if got := report(Plan(c.entries, nil, c.actual)); got != c.want {
			t.Errorf("%s:\n%swant:\n%s", c.about, got, c.want)
		}
	}
}

func bridge(t *testing.T, keys string) *profile.Bridge {
	text := "[connection]\ntype=bridge\ninterface-name=br0\n[bridge]\nstp=false\n" + keys
	return entry(t, "b", []byte(text)).Profile.Bridge
}

// with returns options as the kernel reports them, some of them with other values.
func with(list []option, other map[uint16][]byte) map[uint16][]byte {
	out := map[uint16][]byte{}
	for _, o := range list {
		out[o.number] = o.value
	}
	maps.Copy(out, other)
	return out
}

func TestVLANs(t *testing.T) {
	for _, c := range []struct {
		list  string
		usual int64
		want  string
	}{
		{"", 1, "1 pvid untagged"},
		{"", 0, ""},
		{"10-12, 20", 1, "1 pvid untagged,10-12,20"},
		{"1, 30 pvid untagged", 1, "1,30 pvid untagged"},
		{"5 untagged,6 untagged", 1, "1 pvid untagged,5-6 untagged"},
		{"4095", 0, "wrong"}, {"9-3", 0, "wrong"}, {"1-4 pvid", 0, "wrong"}, {"x", 0, "wrong"}, {"0", 0, "wrong"},
	} {
		list, why := vlansOf(c.list, c.usual)
		var words []string
		for _, v := range ranges(list) {
			words = append(words, v.String())
		}
		got := strings.Join(words, ",")
		if why != "" {
			got = "wrong"
		}
		if got != c.want {
			t.Errorf("vlansOf(%q, %d) = %s, want %s", c.list, c.usual, got, c.want)
		}
	}
}

// Whatever a message about a link holds, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	head := make([]byte, 16)
	f.Add(append(head, attribute(3, []byte("eth0\x00"))...))
	f.Add(append(head, attribute(18, attribute(1, []byte("vlan\x00")))...))
	info := append(attribute(1, []byte("vlan\x00")), attribute(2, attribute(3, attribute(1, []byte{1, 2})))...)
	f.Add(append(head, attribute(18, info)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parse(b); err == nil {
			Plan(nil, nil, []Actual{a})
		}
	})
}
