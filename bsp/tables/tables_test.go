package tables

import (
	"strings"
	"testing"
)

type sample struct {
	Name  string   `toml:"name"`
	Count int      `toml:"count"`
	List  []string `toml:"list"`
	Inner struct {
		Size  int    `toml:"size"`
		Label string `toml:"label"`
		Rows  []row  `toml:"rows"`
	} `toml:"inner"`
}

type row struct {
	A string `toml:"a"`
	B int    `toml:"b"`
}

func TestDecodeReportsAllFaults(t *testing.T) {
	text := `name = 3
count = "x" # both wrong
colour = "red"

[inner]
size = "big"
label = "fine"
speed = 1
rows = [
  { a = "x", b = 1 },
  { a = "x", c = 2 },
]

[outer]
a = 1
`
	var s sample
	table := Decode("f.toml", []byte(text), &s)
	table.Fault("inner.label", "label %q is taken", s.Inner.Label)
	err := table.Err()
	if err == nil {
		t.Fatal("Decode: no faults")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		"f.toml:1: key name: incompatible types",
		"f.toml:2: key count: incompatible types",
		"f.toml:3: unknown key colour",
		"f.toml:6: key inner.size: incompatible types",
		`f.toml:7: label "fine" is taken`,
		"f.toml:8: unknown key inner.speed",
		"f.toml:11: unknown key inner.rows.c",
		"f.toml:14: unknown key outer",
	}
	if len(got) != len(want) {
		t.Fatalf("faults:\n%s\nwant %d", err, len(want))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d = %q, want %q", i, got[i], want[i])
		}
	}
}

func TestDecodeSyntax(t *testing.T) {
	for name, text := range map[string]string{
		"bare word": "name = yes\n", "open string": "name = \"x\n", "twice": "name = \"a\"\nname = \"b\"\n",
		"empty key": "= 3\n", "binary": "\x00\x01\x02", "latin1": "name = \"\xe9\"\n",
	} {
		var s sample
		if err := Decode("f.toml", []byte(text), &s).Err(); err == nil {
			t.Errorf("%s: no fault", name)
		} else if !strings.HasPrefix(err.Error(), "f.toml:") {
			t.Errorf("%s: %q does not begin with the file and line", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("name = \"x\"\n[inner]\nsize = 3\nrows = [{a=\"b\", b=3}]\n")
	f.Add("[[inner.rows]]\na = 1\n")
	f.Add("inner.size = 1\n\"quo.ted\" = 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		var s sample
		_ = Decode("f", []byte(text), &s).Err() // must not panic
	})
}
