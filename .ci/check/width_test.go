package main

import (
	"slices"
	"strings"
	"testing"
)

func TestWideLines(t *testing.T) {
	full := strings.Repeat("ü", mostWidth)
	text := strings.Join([]string{full, full + "x", "\t" + full[:2*(mostWidth-tabWidth)], "\t" + full[:2*(mostWidth-tabWidth)] + "x", "| " + full, ""}, "\n")
	if got := wideLines(text, false); !slices.Equal(got, []int{2, 4, 5}) {
		t.Errorf("wideLines of Go = %v", got)
	}
	if got := wideLines(text, true); !slices.Equal(got, []int{2, 4}) {
		t.Errorf("wideLines of Markdown = %v", got)
	}
}

func TestOverWidth(t *testing.T) {
	wide := map[string][]string{"a": {"a/x.go:1", "a/x.go:2"}, "b": {"b/x.go:1"}, "c": {"c/x.go:1"}}
	got := overWidth(wide, map[string]int{"a": 1, "b": 1, "d": 2})
	want := []string{"a has 2 lines of more than 120 characters, its limit is 1", "c has 1 lines of more than 120 characters, its limit is 0", "d has no line"}
	if len(got) != len(want) {
		t.Fatalf("overWidth = %q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("overWidth[%d] = %q, want %q...", i, got[i], want[i])
		}
	}
}
