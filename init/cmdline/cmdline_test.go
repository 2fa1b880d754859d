package cmdline

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  Line
		fault bool
	}{
		{"quiet resinos.root=PARTUUID=ABcd-02 resinos.slot=A panic=10\n", Line{"abcd-02", "A", false}, false},
		{`x="a resinos.slot=B" resinos.slot="A"`, Line{"", "A", false}, false},
		{"resinos.slot=A resinos.slot=B", Line{"", "B", false}, false},
		{"resinos.root=/dev/sda1 resinos.slot=A", Line{"", "A", false}, true},
		{"resinos.slot=C resinos.root=PARTUUID=x", Line{"x", "", false}, true},
		{"resinos.trial resinos.slot=B", Line{"", "B", true}, false},
		{"", Line{}, false},
	} {
		got, err := Parse(tt.text)
		if got != tt.want || (err != nil) != tt.fault {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, " \t\n": nil, "a": {"a"}, " a\tb  c\n": {"a", "b", "c"},
		`a="b c" d`: {"a=b c", "d"}, `"a b"c" d"`: {"a bc d"}, `a "" b`: {"a", "", "b"}, `a="b c`: {"a=b c"}, `"`: {""},
	} {
		if got := Words(text); !slices.Equal(got, want) {
			t.Errorf("Words(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("resinos.root=PARTUUID=x resinos.slot=A")
	f.Add(`a="b c`)
	f.Fuzz(func(t *testing.T, text string) {
		if c, _ := Parse(text); c.Slot != "" && c.Slot != "A" && c.Slot != "B" {
			t.Errorf("slot %q", c.Slot)
		}
	})
}
