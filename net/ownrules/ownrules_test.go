package ownrules

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
)

// owner has a directory of rules and a loader.
type owner struct {
	t *testing.T
	l Loader
}

func newOwner(t *testing.T) *owner {
	dir := t.TempDir()
	return &owner{t, Loader{Dir: filepath.Join(dir, "nftables.d"), State: filepath.Join(dir, "state.json"),
		NFT: testenv.NeedProgram(t, "nft"), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}}
}

func (o *owner) put(name, text string) {
	o.t.Helper()
	path := filepath.Join(o.l.Dir, name)
	err := errors.Join(os.MkdirAll(o.l.Dir, 0o755), os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644))
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *owner) drop(name string) {
	o.t.Helper()
	if err := os.Remove(filepath.Join(o.l.Dir, name)); err != nil {
		o.t.Fatal(err)
	}
}

// load loads, and returns what became of the files: "NAME TABLES" or "NAME TABLES ERROR".
func (o *owner) load() string {
	o.t.Helper()
	files, err := o.l.Load(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		line := fmt.Sprintf("%s %q", f.Name, f.Tables)
		if f.Error != "" {
			line += " " + strings.ReplaceAll(f.Error, o.l.Dir, "DIR")
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func (o *owner) want(what, want string) {
	o.t.Helper()
	if got := o.load(); got != want {
		o.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// rules are those of the kernel.
func rules(t *testing.T) string { return testenv.Run(t, "nft", "list", "ruleset") }

const shop = "table inet shop {\n\tchain in {\n\t\ttype filter hook input priority -20;\n" +
	"\t\ttcp dport 80 counter accept\n\t}\n}\n"

func TestRules(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	o := newOwner(t)
	testenv.Run(t, "nft", "table ip others { chain x { type filter hook input priority 0; }; }")
	o.want("nothing", "")
	o.put("10-shop.nft", shop)
	o.put("20-two.nft", "add table ip a\nadd table ip6 b\n")
	o.put("README", "no rules")
	o.put(".hidden.nft", "nonsense")
	two := `20-two.nft ["ip a" "ip6 b"]`
	o.want("loaded", `10-shop.nft ["inet shop"]`+"\n"+two)
	first := rules(t)
	if strings.Count(first, "dport 80") != 1 || !strings.Contains(first, "table ip6 b") {
		t.Errorf("rules:\n%s", first)
	}
	o.want("again", `10-shop.nft ["inet shop"]`+"\n"+two)
	if got := rules(t); got != first {
		t.Errorf("rules change without a change of the files:\n%s", got)
	}

	o.put("10-shop.nft", strings.Replace(shop, "80", "81", 1))
	o.want("changed", `10-shop.nft ["inet shop"]`+"\n"+two)
	if got := rules(t); strings.Contains(got, "dport 80") || strings.Count(got, "dport 81") != 1 {
		t.Errorf("rules after a change:\n%s", got)
	}

	o.put("10-shop.nft", strings.Replace(shop, "dport 80", "dprt 80", 1))
	got := o.load()
	where := `10-shop.nft ["inet shop"] DIR/10-shop.nft:4:`
	if !strings.Contains(got, where) || !strings.Contains(got, "Error: syntax error") {
		t.Errorf("a wrong file: %q", got)
	}
	if again := o.load(); again != got {
		t.Errorf("a wrong file, once more: %q", again)
	}
	if got := rules(t); strings.Count(got, "dport 81") != 1 {
		t.Errorf("a wrong file changed rules:\n%s", got)
	}
	testenv.Run(t, "nft", "delete table ip a")
	o.put("10-shop.nft", shop)
	o.want("mended, and one that somebody removed", `10-shop.nft ["inet shop"]`+"\n"+two)
	if got := rules(t); !strings.Contains(got, "table ip a") || strings.Count(got, "dport 80") != 1 {
		t.Errorf("mended rules:\n%s", got)
	}
	o.drop("10-shop.nft")
	o.want("one is gone", two)
	o.drop("20-two.nft")
	o.want("all are gone", "")
	if got := rules(t); !strings.Contains(got, "table ip others") || strings.Count(got, "table ") != 1 {
		t.Errorf("left: %s", got)
	}
}

// TestRefused: what touches the tables of others is refused before it does; half of a file is never loaded.
func TestRefused(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	testenv.Run(t, "nft", "table ip others { chain x { type filter hook input priority 0; }; }")
	before := rules(t)
	for what, c := range map[string]struct{ text, want string }{
		"flush":            {"#!/usr/sbin/nft -f\n\nflush ruleset\n" + shop, "x.nft:3: flush ruleset would remove"},
		"a foreign table":  {"table ip others {\n}\n", "table ip others is there already"},
		"a foreign chain":  {"add rule ip others x drop\n", "x.nft:1:"},
		"foreign removed":  {"delete table ip others\n", "x.nft:1:"},
		"wrong at the end": {shop + "\ntable inet other {\n\tchain y {\n\t\tjump nowhere\n\t}\n}\n", "x.nft:10:"},
		"garbage":          {"\x00\xff", "x.nft:1:"},
	} {
		o := newOwner(t)
		o.put("x.nft", c.text)
		if got := o.load(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
		if after := rules(t); after != before {
			t.Errorf("%s changed the rules:\n%s", what, after)
		}
	}
	o := newOwner(t)
	o.put("x.nft", shop)
	if err := os.Chmod(filepath.Join(o.l.Dir, "x.nft"), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := o.load(); !strings.Contains(got, "others may write it") {
		t.Errorf("a file that others may write: %q", got)
	}
}

// TestLinks: rules may name links by number, as those that are written for a device do.
func TestLinks(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	linktest.Cable(t, "eth7")
	o := newOwner(t)
	o.put("x.nft", "table netdev early {\n\tchain in {\n"+
		"\t\ttype filter hook ingress device \"eth7\" priority 0;\n\t}\n}\n"+
		"table inet shop {\n\tchain in {\n\t\ttype filter hook input priority 0;\n\t\tiif eth7 accept\n\t}\n}\n")
	o.want("loaded", `x.nft ["netdev early" "inet shop"]`)
	if got := rules(t); !strings.Contains(got, `iif "eth7" accept`) {
		t.Errorf("rules:\n%s", got)
	}
}

// TestLostState: garbage in the state costs no rule, and doubles none.
func TestLostState(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	o := newOwner(t)
	o.put("x.nft", shop)
	o.load()
	if err := os.WriteFile(o.l.State, []byte("{{{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := o.load(); !strings.Contains(got, "is there already") {
		t.Errorf("after the state was lost: %q", got)
	}
	if got := rules(t); strings.Count(got, "dport 80") != 1 {
		t.Errorf("rules:\n%s", got)
	}
}
