package keyfile

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	f, err := Parse([]byte("# comment\n\n[a b]\nx = 1 \r\n\ty=\t2\n[c]\nz=\n[a b]\nx=3\nname[de]=dropped\n"))
	want := File{Groups: []Group{
		{Name: "a b", Line: 3, Keys: []Key{{"x", "3", 9}, {"y", "2", 5}}},
		{Name: "c", Line: 6, Keys: []Key{{"z", "", 7}}},
	}}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("Parse = %+v, %v; want %+v", f, err, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a=1\n":                            "line 1",
		"[a]\nwhat\n":                      "line 2",
		"[a[b]\n":                          "line 1",
		"[]\n":                             "line 1",
		"[a]\n=x\n":                        "line 2",
		"[a]\nb]c=x\n":                     "line 2",
		"[a]\nb[=x\n":                      "line 2",
		"[a] b\n":                          "line 1",
		strings.Repeat("#\n", MaxSize/2+1): "at most",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.20q) = %v, want an error with %q", text, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	for _, tt := range []struct {
		value, text string
		list        []string
	}{
		{``, ``, nil},
		{`a b `, `a b `, []string{"a b "}},
		{`\sa\tb\nc\rd\\e`, " a\tb\nc\rd\\e", []string{" a\tb\nc\rd\\e"}},
		{`a;b;`, `a;b;`, []string{"a", "b"}},
		{`a;;b`, `a;;b`, []string{"a", "", "b"}},
		{`;`, `;`, []string{""}},
		{`a\;b;c`, "error", []string{"a;b", "c"}},
		{`a\xb`, "error", nil},
		{`a\`, "error", nil},
		{"\xff", "error", nil},
	} {
		k := Key{Value: tt.value}
		text, err := k.Text()
		if tt.text == "error" && err == nil || tt.text != "error" && (err != nil || text != tt.text) {
			t.Errorf("Text(%q) = %q, %v; want %q", tt.value, text, err, tt.text)
		}
		if list, _ := k.List(); !reflect.DeepEqual(list, tt.list) {
			t.Errorf("List(%q) = %q, want %q", tt.value, list, tt.list)
		}
	}
}

func TestIgnored(t *testing.T) {
	for name, want := range map[string]bool{
		"": true, ".hidden": true, "eth0~": true, "ca.pem": true, "KEY.DER": true,
		"eth0.a1B2c3": true, "sample.ignore": true,
		"eth0": false, "eth0.nmconnection": false, ".pem": true, "my wifi": false, "eth0.10": false,
		"resin-sample": false,
	} {
		if got := Ignored(name); got != want {
			t.Errorf("Ignored(%q) = %t, want %t", name, got, want)
		}
	}
}

// What is quoted is read back, whatever it is, and never adds a line.
func FuzzQuote(f *testing.F) {
	f.Add("a", " b;\\\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) || !utf8.ValidString(a) || !utf8.ValidString(b) || b == "" {
			return
		}
		if strings.HasPrefix(a, "\v") || strings.HasPrefix(a, "\f") {
			return // white space before a value that has no escape: no key file can hold it
		}
		keys := []Key{{Name: "one", Value: Quote(a)}, {Name: "two", Value: QuoteList([]string{a, b})}}
		file := File{Groups: []Group{{Name: "g", Keys: keys}}}
		again, err := Parse([]byte(file.String()))
		if err != nil || len(again.Groups) != 1 || len(again.Groups[0].Keys) != 2 {
			t.Fatalf("Parse(%q) = %+v, %v", file.String(), again, err)
		}
		keys = again.Groups[0].Keys
		if got, err := keys[0].Text(); err != nil || got != a {
			t.Errorf("Text of %q = %q, %v", a, got, err)
		}
		if got, err := keys[1].List(); err != nil || !reflect.DeepEqual(got, []string{a, b}) {
			t.Errorf("List of %q = %q, %v", []string{a, b}, got, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[a]\nb=c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse([]byte(file.String()))
		if err != nil || len(again.Groups) != len(file.Groups) {
			t.Errorf("Parse of its own writing %q: %v", file, err)
		}
	})
}
