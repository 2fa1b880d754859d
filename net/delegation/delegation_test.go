package delegation

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/net/dhcp6"
	"resinos/net/link"
	"resinos/net/netstate"
)

// leased returns a lease of prefixes, for one hour and two from an instant on.
func leased(bound time.Duration, prefixes ...string) dhcp6.Lease {
	l := dhcp6.Lease{Bound: bound}
	for _, p := range prefixes {
		one := dhcp6.Prefix{Prefix: netip.MustParsePrefix(p), Preferred: time.Hour, Valid: 2 * time.Hour}
		l.Prefixes = append(l.Prefixes, one)
	}
	return l
}

// words prints what links get: "eth1=2001:db8::/64 eth2=…".
func words(given map[string][]netstate.Network) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		for _, n := range given[name] {
			out = append(out, name+"="+n.Prefix.String())
		}
	}
	return strings.Join(out, " ")
}

func TestPlan(t *testing.T) {
	three := map[string]int{"eth1": 0, "eth2": 1, "wlan0": 2}
	for _, tt := range []struct {
		name     string
		prefixes string
		numbers  map[string]int
		taken    string
		want     string
	}{
		{"nothing", "", three, "", ""},
		{"nobody", "2001:db8:f00::/56", nil, "", ""},
		{"usual", "2001:db8:f00::/56", three, "",
			"eth1=2001:db8:f00::/64 eth2=2001:db8:f00:1::/64 wlan0=2001:db8:f00:2::/64"},
		{"one network for one", "2001:db8:f00:7::/64", map[string]int{"eth1": 0}, "", "eth1=2001:db8:f00:7::/64"},
		{"one network for three", "2001:db8:f00:7::/64", three, "", "eth1=2001:db8:f00:7::/64"},
		{"two networks for three", "2001:db8:f00:6::/63", three, "",
			"eth1=2001:db8:f00:6::/64 eth2=2001:db8:f00:7::/64"},
		{"a number beyond the prefix", "2001:db8:f00::/62", map[string]int{"eth1": 200, "eth2": 0}, "",
			"eth1=2001:db8:f00:1::/64 eth2=2001:db8:f00::/64"},
		{"two prefixes", "2001:db8:f00::/56 fd00:1::/60", map[string]int{"eth2": 1}, "",
			"eth2=2001:db8:f00:1::/64 eth2=fd00:1:0:1::/64"},
		{"a great prefix", "2001:db8::/32", map[string]int{"eth1": 65535}, "", "eth1=2001:db8:0:ffff::/64"},
		{"the server's own link is in it", "2001:db8:f00::/62", three, "2001:db8:f00::5/64 2001:db8:aa::1/64",
			"eth1=2001:db8:f00:3::/64 eth2=2001:db8:f00:1::/64 wlan0=2001:db8:f00:2::/64"},
	} {
		var taken []netip.Prefix
		for _, text := range strings.Fields(tt.taken) {
			taken = append(taken, netip.MustParsePrefix(text))
		}
		got := Plan(leased(time.Minute, strings.Fields(tt.prefixes)...), tt.numbers, taken)
		if text := words(got); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
		for _, list := range got {
			if n := list[0]; n.Preferred != 61*time.Minute || n.Valid != 121*time.Minute {
				t.Errorf("%s: lifetimes %+v", tt.name, n)
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		had   map[string]int
		links string
		want  string
	}{
		{nil, "", "map[]"},
		{nil, "wlan0 eth1", "map[eth1:0 wlan0:1]"},
		{map[string]int{"wlan0": 0}, "wlan0 eth1", "map[eth1:1 wlan0:0]"},
		{map[string]int{"wlan0": 5, "eth3": 0}, "wlan0 eth1", "map[eth1:0 wlan0:5]"},
		{map[string]int{"eth1": -1, "eth2": 1 << 20, "eth3": 1, "eth4": 1}, "eth1 eth2 eth3 eth4",
			"map[eth1:0 eth2:2 eth3:1 eth4:3]"},
	} {
		if got := fmt.Sprint(Number(tt.had, strings.Fields(tt.links))); got != tt.want {
			t.Errorf("Number(%v, %s) = %s, want %s", tt.had, tt.links, got, tt.want)
		}
	}
}

func TestBest(t *testing.T) {
	up := func(name string, metric int, carrier bool, prefixes ...string) Uplink {
		return Uplink{Link: name, Metric: metric, Carrier: carrier, Lease: leased(0, prefixes...)}
	}
	for _, tt := range []struct {
		name string
		ups  []Uplink
		want string
	}{
		{"none", nil, ""},
		{"no prefix", []Uplink{up("eth0", 100, true)}, ""},
		{"one", []Uplink{up("eth0", 100, true, "2001:db8::/56")}, "eth0"},
		{"the better of two", []Uplink{up("wwan0", 700, true, "2001:db8::/56"),
			up("eth0", 100, true, "2001:db8:1::/56")}, "eth0"},
		{"it lost its priority", []Uplink{up("wwan0", 700, true, "2001:db8::/56"),
			up("eth0", 20100, true, "2001:db8:1::/56")}, "wwan0"},
		{"the better one has no prefix", []Uplink{up("wwan0", 700, true, "2001:db8::/56"), up("eth0", 100, true)}, ""},
		{"the better one leads nowhere", []Uplink{up("wwan0", 700, true, "2001:db8::/56"), up("none0", 100, true)},
			"wwan0"},
		{"the better one has no carrier", []Uplink{up("wwan0", 700, true, "2001:db8::/56"), up("eth0", 100, false)},
			"wwan0"},
		{"the same metric", []Uplink{up("eth1", 100, true, "2001:db8::/56"), up("eth0", 100, true, "2001:db8:1::/56")},
			"eth0"},
	} {
		got, any := Best(tt.ups, func(u Uplink) bool { return u.Link != "none0" })
		if name := map[bool]string{true: got.Link}[any]; name != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, name, tt.want)
		}
	}
}

func TestWish(t *testing.T) {
	for _, tt := range []struct {
		last  string
		links int
		want  string
	}{
		{"", 0, "invalid Prefix"}, {"", 1, "invalid Prefix"}, {"", 2, "::/63"}, {"", 3, "::/62"}, {"", 5, "::/61"},
		{"2001:db8::/56", 1, "2001:db8::/56"}, {"2001:db8::/64", 1, "2001:db8::/64"}, {"2001:db8::/64", 2, "::/63"},
		{"2001:db8::/64 fd00::/60", 2, "fd00::/60"},
	} {
		var last []netip.Prefix
		for _, text := range strings.Fields(tt.last) {
			last = append(last, netip.MustParsePrefix(text))
		}
		if got := Wish(last, tt.links).String(); got != tt.want {
			t.Errorf("Wish(%s, %d) = %s, want %s", tt.last, tt.links, got, tt.want)
		}
	}
}

func TestRoutes(t *testing.T) {
	list := func(text string) (out []netip.Prefix) {
		for _, p := range strings.Fields(text) {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, tt := range []struct{ wanted, actual, want string }{
		{"", "", "[]"}, {"2001:db8::/56", "2001:db8::/56", "[]"},
		{"2001:db8::/56", "2001:db8:1::/56",
			"[remove route unreachable 2001:db8:1::/56 put route unreachable 2001:db8::/56]"},
		{"", "2001:db8::/56", "[remove route unreachable 2001:db8::/56]"},
	} {
		if got := fmt.Sprint(routes(list(tt.wanted), list(tt.actual))); got != tt.want {
			t.Errorf("routes(%s, %s) = %s, want %s", tt.wanted, tt.actual, got, tt.want)
		}
	}
}

// TestMemory: a restart goes on with the same networks, and after a reboot guests are told to forget them until they
// are delegated again.
func TestMemory(t *testing.T) {
	run, state := t.TempDir(), t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s := New(run, state, log)
	s.blocked = []netip.Prefix{netip.MustParsePrefix("2001:db8:f00::/56")} // no route is set by this test
	up := Uplink{Link: "eth0", Hardware: "02:00:00:00:00:01", Lease: leased(time.Minute, "2001:db8:f00::/56")}
	if !s.Update(2*time.Minute, []Uplink{up}, []string{"eth2", "eth1"}) ||
		s.Update(3*time.Minute, []Uplink{up}, []string{"eth2", "eth1"}) {
		t.Error("a change is reported twice, or not at all")
	}
	s.Close()
	const want = "eth1=2001:db8:f00::/64 eth2=2001:db8:f00:1::/64"
	if got := words(s.given); got != want {
		t.Fatalf("given %s", got)
	}
	next := New(run, state, log)
	if got := words(next.given); got != want {
		t.Errorf("after a restart: %s", got)
	}
	l := next.Last("eth0", up.Hardware)
	if fmt.Sprint(l.Prefixes, l.Bound) != fmt.Sprint(up.Lease.Prefixes, time.Minute) {
		t.Errorf("after a restart: %+v", l)
	}
	if l := next.Last("eth0", "02:00:00:00:00:02"); len(l.Prefixes) != 0 {
		t.Errorf("another card has %+v", l)
	}
	next = New(t.TempDir(), state, log) // a reboot
	if got := next.Wish("eth0", up.Hardware, 2).String(); got != "2001:db8:f00::/56" {
		t.Errorf("after a reboot it wishes %s", got)
	}
	if got := fmt.Sprint(next.Networks("eth2"), next.Last("eth0", up.Hardware).Prefixes); got !=
		"[{2001:db8:f00:1::/64 0s 0s}] []" {
		t.Errorf("after a reboot: %s", got)
	}
	var w link.Wanted
	if next.Source("eth2", 100).Want(time.Second, &w); len(w.Addresses)+len(w.Routes) != 0 {
		t.Errorf("after a reboot the link gets %+v", w)
	}
	next.blocked = s.blocked
	next.Update(time.Minute, []Uplink{up}, []string{"eth2"})
	if got := fmt.Sprint(next.Networks("eth2")); got != "[{2001:db8:f00:1::/64 1h1m0s 2h1m0s}]" {
		t.Errorf("delegated again: %s", got)
	}
	next.Update(2*time.Minute, nil, []string{"eth2"})
	if got := fmt.Sprint(next.Networks("eth2")); got != "[{2001:db8:f00:1::/64 0s 0s}]" {
		t.Errorf("ended: %s", got)
	}
	next.Update(5*time.Hour, nil, []string{"eth2"})
	if got := next.Networks("eth2"); len(got) != 0 {
		t.Errorf("hours later: %v", got)
	}
	next.Close()
}

// TestFewWrites: what a server does costs no more than one write to flash in ten minutes.
func TestFewWrites(t *testing.T) {
	state := t.TempDir()
	s := New("", state, slog.New(slog.DiscardHandler))
	path, seen, writes := filepath.Join(state, fileName), "", 0
	for i := range 100 {
		p := fmt.Sprintf("2001:db8:%x::/48", i)
		s.blocked = []netip.Prefix{netip.MustParsePrefix(p)}
		s.Update(time.Duration(i)*time.Minute, []Uplink{{Link: "eth0", Lease: leased(0, p)}}, nil)
		s.Close()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != seen {
			writes++
		}
		seen = string(text)
	}
	if writes < 9 || writes > 11 {
		t.Errorf("%d writes in 100 minutes", writes)
	}
}

// TestGarbage: a file that nobody could have written is not used.
func TestGarbage(t *testing.T) {
	for _, text := range []string{
		"", "{", "[]", `{"uplinks":[{"link":"a","prefixes":[{"prefix":"10.0.0.0/8"}]}]}`,
		`{"uplinks":[{"link":"a","prefixes":[{"prefix":"2001:db8::/72"}]}]}`,
		`{"uplinks":[{"link":"a","prefixes":[{"prefix":"2001:db8::1/56"}]}]}`,
		`{"uplinks":[{"link":"a","prefixes":[{"prefix":"2001:db8::/56","valid":-1}]}]}`,
		`{"uplinks":[{"link":"a","prefixes":[{"prefix":"2001:db8::/56","preferred":5}]}]}`,
		`{"uplinks":[{"link":"a","prefixes":[{"prefix":"2001:db8::/56"}],"bound":9000000000000000000}]}`,
		`{"numbers":{"eth1":-1}}`, `{"numbers":{"eth1":65536}}`,
		`{"uplinks":[{},{},{},{},{},{},{},{},{}]}`,
	} {
		if m, err := parse([]byte(text)); err == nil {
			t.Errorf("parse(%q) = %+v", text, m)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(dir, dir, slog.New(slog.DiscardHandler))
	if s.Update(time.Minute, nil, nil) || len(s.Networks("eth1")) != 0 {
		t.Error("garbage gives a network")
	}
	s.Close()
}

// FuzzParse: a file that is read again is the same, and its networks can be planned.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"uplinks":[{"link":"eth0","hardware":"02:00:00:00:00:01","prefixes":[{"prefix":"2001:db8::/56",` +
		`"preferred":3600000000000,"valid":7200000000000}],"bound":60000000000}],"numbers":{"eth1":0,"eth2":300}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parse(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		for _, u := range m.Uplinks {
			for _, list := range Plan(u.lease(), m.Numbers, nil) {
				if len(list) > 4 || list[0].Prefix.Bits() != 64 {
					t.Fatalf("%+v", list)
				}
			}
		}
	})
}
