package main

import (
	"slices"
	"strings"
	"testing"
)

func TestWideLines(t *testing.T) {
	full := strings.Repeat("ü", mostWidth)
	text := strings.Join([]string{full, full + "x", "\t" + full[:2*(mostWidth-tabWidth)],
		"\t" + full[:2*(mostWidth-tabWidth)] + "x", "| " + full, ""}, "\n")
	if got := wideLines(text, false); !slices.Equal(got, []int{2, 4, 5}) {
		t.Errorf("wideLines of Go = %v", got)
	}
	if got := wideLines(text, true); !slices.Equal(got, []int{2, 4}) {
		t.Errorf("wideLines of Markdown = %v", got)
	}
}
