package resolv

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

func servers(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func of(link string, metric int, list []netip.Addr, search ...string) Source {
	return Source{Link: link, Metric: metric, Servers: list, Search: search}
}

func TestRender(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60)
	one := of("eth0", 102, servers("10.0.2.3"), "lan.example")
	owner := of("config.json", -1, servers("1.1.1.1", "2.2.2.2", "3.3.3.3"))
	fallback := owner
	fallback.Fallback = true
	var b strings.Builder
	for _, tt := range []struct {
		name      string
		sources   []Source
		forwarder string
	}{
		{"nothing known", nil, ""},
		{"one link", []Source{one}, ""},
		{"two links, the better one last", []Source{
			of("eth1", 103, servers("10.1.0.1", "10.1.0.2"), "one.example"),
			of("eth0", 102, servers("10.0.0.1", "10.0.0.2"), "two.example", "ONE.example"),
		}, ""},
		{"the same server twice", []Source{of("eth0", 1, servers("1.1.1.1", "1.1.1.1")),
			of("eth1", 2, servers("1.1.1.1", "8.8.8.8"))}, ""},
		{"too many of all", []Source{of("eth0", 1, servers("1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"),
			strings.Fields("a b c d e f g h i")...)}, ""},
		{"too long", []Source{of("eth0", 1, nil, "x."+long, "y."+long, "z."+long, "short")}, ""},
		{"hostile", []Source{of("eth0", 1, []netip.Addr{{}}, "x\nnameserver 6.6.6.6", "", ".", "a b", "#")}, ""},
		{"the owner's leave a place", []Source{one, owner}, ""},
		{"a fallback beside others", []Source{one, fallback}, ""},
		{"a fallback alone", []Source{of("eth0", 102, nil, "lan.example"), fallback}, ""},
		{"with a forwarder", []Source{one, owner}, "127.0.0.2"},
	} {
		forwarder, _ := netip.ParseAddr(tt.forwarder) // empty: none
		fmt.Fprintf(&b, "=== %s\n%s", tt.name, Render(tt.sources, forwarder))
	}
	testenv.Golden(t, "render.golden", b.String())
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	for _, content := range []string{"one\n", "one\n", "two\n"} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("file = %q, %v; want %q", got, err, content)
		}
	}
	before, _ := os.Stat(path)
	if err := Write(path, []byte("two\n")); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) {
		t.Error("the same content replaced the file")
	}
	if err := Write(filepath.Join(path, "below", "a file"), nil); err == nil {
		t.Error("written where nothing can be")
	}
}

// Whatever names a server sends, each line of the file is one we mean to write.
func FuzzRender(f *testing.F) {
	f.Add("lan.example", "x\nnameserver 6.6.6.6")
	f.Fuzz(func(t *testing.T, a, b string) {
		text := Render([]Source{of("eth0", 1, servers("10.0.0.1"), a, b)}, netip.Addr{})
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		if len(lines) > 3 || string(lines[len(lines)-1]) != "nameserver 10.0.0.1" {
			t.Fatalf("file = %q", text)
		}
	})
}

// Sources of a negative priority are alone with the owner's; options are those that resolvers know.
func TestAloneAndOptions(t *testing.T) {
	owner := of("config.json", -1<<31, servers("9.9.9.9"))
	owner.Owner = true
	usual := of("eth0", 100, servers("10.0.0.1"), "lan")
	usual.Options = []string{"rotate", "evil\nnameserver 1.2.3.4", "ndots:31"}
	lower, lowest := of("eth1", -1, servers("10.0.1.1")), of("eth2", -2, servers("10.0.2.1"), "work")
	lower.Alone, lowest.Alone = true, true
	lowest.Options = []string{"ndots:2", "rotate"}
	for _, c := range []struct {
		sources []Source
		want    string
	}{
		{[]Source{usual}, "search lan\nnameserver 10.0.0.1\noptions rotate\n"},
		{[]Source{usual, lower}, "nameserver 10.0.1.1\n"},
		{[]Source{usual, lower, lowest, owner},
			"search work\nnameserver 9.9.9.9\nnameserver 10.0.2.1\noptions ndots:2 rotate\n"},
	} {
		_, got, _ := strings.Cut(string(Render(c.sources, netip.Addr{})), "\n")
		if got != c.want {
			t.Errorf("Render = %q, want %q", got, c.want)
		}
	}
}
