package picture_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"resinos/init/osctl/picture"
	"resinos/init/osctl/picture/picturetest"
	"resinos/init/osctl/screen"
)

// TestDocument: a document has what was drawn, and says nothing that a stranger's text made it say.
func TestDocument(t *testing.T) {
	var c picture.Canvas
	c.Bar(10, 10, 50, 10, "c1", `"><script>alert(1)</script>`)
	c.Dot(80, 15, 5, "c2", "")
	c.Path(10, 40, 80, 60, "grid")
	c.Text(10, 80, "dim", "<b>&amp; 日本")
	c.Text(10, 100, "", "")
	svg := c.Document(200, 100, `a "title" <x>`)
	if got := picturetest.Check(t, svg); !slices.Equal(got, []string{"<b>&amp; 日本"}) {
		t.Errorf("texts = %q", got)
	}
	for _, bad := range []string{"<script", "<b>", "href", "url("} {
		if strings.Contains(svg, bad) {
			t.Errorf("the document has %s:\n%s", bad, svg)
		}
	}
}

func TestCut(t *testing.T) {
	for text, want := range map[string]string{
		"netd": "netd", "": "", "a\tb": "a b", "0123456789": "0123456…", "日本日本日本": "日本日…",
		"\x1b[31m": `\x1b[31m`, "a\nb": "a; b", strings.Repeat("\u0301", 9999): strings.Repeat("\u0301", 32),
	} {
		if got := picture.Cut(text, 8); got != want {
			t.Errorf("Cut(%q, 8) = %q, want %q", text, got, want)
		}
	}
}

// FuzzText: no text breaks a document or needs more room than it was cut to.
func FuzzText(f *testing.F) {
	f.Add("netd")
	f.Add("]]>&<\"'\x00\ufffe\u202e\xff")
	f.Add(strings.Repeat("e\u0301日", 99))
	f.Fuzz(func(t *testing.T, text string) {
		cut := picture.Cut(text, 20)
		if screen.Width(cut) > 20 || len(cut) > 4*160 || !utf8.ValidString(cut) {
			t.Errorf("Cut(%q, 20) = %q", text, cut)
		}
		var c picture.Canvas
		c.Text(10, 20, "dim", cut)
		c.Bar(0, 0, 1, 1, "c1", text)
		got := picturetest.Check(t, c.Document(200, 100, cut))
		if cut != "" && !slices.Equal(got, []string{cut}) {
			t.Errorf("the document of %q has %q", cut, got)
		}
	})
}
