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

func TestRender(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60)
	var b strings.Builder
	for _, tt := range []struct {
		name    string
		sources []Source
	}{
		{"nothing known", nil},
		{"one link", []Source{{"eth0", 102, servers("10.0.2.3"), []string{"lan.example"}}}},
		{"two links, the better one last", []Source{
			{"eth1", 103, servers("10.1.0.1", "10.1.0.2"), []string{"one.example"}},
			{"eth0", 102, servers("10.0.0.1", "10.0.0.2"), []string{"two.example", "ONE.example"}},
		}},
		{"the same server twice", []Source{{"eth0", 1, servers("1.1.1.1", "1.1.1.1"), nil}, {"eth1", 2, servers("1.1.1.1", "8.8.8.8"), nil}}},
		{"too many of all", []Source{{"eth0", 1, servers("1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"),
			strings.Fields("a b c d e f g h i")}}},
		{"too long", []Source{{"eth0", 1, nil, []string{"x." + long, "y." + long, "z." + long, "short"}}}},
		{"hostile", []Source{{"eth0", 1, []netip.Addr{{}}, []string{"x\nnameserver 6.6.6.6", "", ".", "a b", "#"}}}},
	} {
		fmt.Fprintf(&b, "=== %s\n%s", tt.name, Render(tt.sources))
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
		text := Render([]Source{{"eth0", 1, servers("10.0.0.1"), []string{a, b}}})
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		if len(lines) > 3 || string(lines[len(lines)-1]) != "nameserver 10.0.0.1" {
			t.Fatalf("file = %q", text)
		}
	})
}
