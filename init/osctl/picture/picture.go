// Package picture draws for osctl: it owns a canvas of texts, bars and lines that becomes one self-contained SVG
// document, readable on light and on dark paper. It knows neither boots nor services, and never reads or writes a file.
// Read Canvas first.
package picture

import (
	"fmt"
	"strings"

	"resinos/init/osctl/screen"
)

const (
	// Column is the width in pixels that a column of text gets: a little more than a character of the font takes.
	Column = 7.3
	// Margin is the empty border of a picture, in pixels.
	Margin = 16.0
	// Line is the height in pixels from a line of text to the next.
	Line = 18.0
)

// tipsUntil is how large a picture may be, in bytes, before it gets no more tips: what is drawn is bounded by who
// draws.
const tipsUntil = 64 << 10

// style is the look of all classes. Not every viewer knows CSS variables, so the dark colours are listed again.
const style = `svg{color-scheme:light dark}
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;` +
	`fill:#2b3138;white-space:pre}
.end{text-anchor:end}.mid{text-anchor:middle}.title{font-size:16px;font-weight:600}.dim{fill:#66707a}
.over{paint-order:stroke;stroke:#fcfcfa;stroke-width:3px;stroke-linejoin:round}
.mile{fill:#7a4fa3}.warn{fill:#9a5b00}.bad{fill:#b3372f}
rect,circle{fill:#fcfcfa}path{fill:none;stroke-width:1.5}
.stripe{fill:#f3f4f2}.grid{stroke:#e1e4e6;stroke-width:1}.at{stroke:#a98bc7;stroke-dasharray:3 3}
.c0{fill:#a9b2ba}.c1{fill:#8db3d6}.c2{fill:#4f8bc0}.c3{fill:#6bb08f}.c4{fill:#e0a04a}.c5{fill:#d0605a}.c6{fill:#9a86c8}
.s0{stroke:#a9b2ba}.s1{stroke:#8db3d6}.s2{stroke:#4f8bc0}.s3{stroke:#6bb08f}.s4{stroke:#e0a04a}.s6{stroke:#9a86c8}
.ring{fill:#fcfcfa;stroke-width:2}.open{fill-opacity:.35}
@media(prefers-color-scheme:dark){text{fill:#d8dde2}.dim{fill:#939da6}.over{stroke:#15181c}
.mile{fill:#c3a5e3}.warn{fill:#e5ae62}.bad{fill:#ee8d86}rect,circle{fill:#15181c}.stripe{fill:#1b1f24}
.grid{stroke:#2c3238}.at{stroke:#7f66a0}
.c0{fill:#6a747d}.c1{fill:#5f8bb3}.c2{fill:#3f78ad}.c3{fill:#4f9475}.c4{fill:#c0843a}.c5{fill:#b9534d}.c6{fill:#7f6cb0}
.s0{stroke:#6a747d}.s1{stroke:#5f8bb3}.s2{stroke:#3f78ad}.s3{stroke:#4f9475}.s4{stroke:#c0843a}.s6{stroke:#7f6cb0}
.ring{fill:#15181c}}
`

// Canvas collects the parts of a picture, what is behind first. Places are pixels from the top left corner. A class is
// one or more words of the style, and comes from our code; every text may come from a stranger. The zero Canvas is
// empty.
type Canvas struct{ body strings.Builder }

// Text writes a line of text that begins at x, ends there (class end) or has its middle there (class mid). y is its
// base line. A text of other than ASCII characters is pressed into the room that it is expected to take, because the
// viewer's font for them may be wider.
func (c *Canvas) Text(x, y float64, class, text string) {
	if text == "" {
		return
	}
	fit := ""
	for _, r := range text {
		if r > '~' {
			fit = fmt.Sprintf(` textLength="%.1f" lengthAdjust="spacingAndGlyphs"`, Width(text))
			break
		}
	}
	fmt.Fprintf(&c.body, `<text class="%s" x="%.1f" y="%.1f"%s>%s</text>`+"\n", class, x, y, fit, escape(text))
}

// Bar draws a rectangle. The viewer shows the tip, if there is one, while the pointer is over it.
func (c *Canvas) Bar(x, y, width, height float64, class, tip string) {
	fmt.Fprintf(&c.body, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"`, class, x, y, width,
		height)
	c.close("rect", tip)
}

// Dot draws a circle.
func (c *Canvas) Dot(x, y, radius float64, class, tip string) {
	fmt.Fprintf(&c.body, `<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"`, class, x, y, radius)
	c.close("circle", tip)
}

// Path draws a straight line, or one with a corner: from x1 at the height y1 to x2, and from there to the height y2.
func (c *Canvas) Path(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&c.body, `<path class="%s" d="M%.1f %.1fH%.1fV%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func (c *Canvas) close(element, tip string) {
	if tip == "" || c.body.Len() > tipsUntil {
		c.body.WriteString("/>\n")
		return
	}
	fmt.Fprintf(&c.body, "><title>%s</title></%s>\n", escape(Cut(tip, 200)), element)
}

// Document is the picture as an SVG document of this size in pixels.
func (c *Canvas) Document(width, height float64, title string) string {
	size := fmt.Sprintf(`width="%.0f" height="%.0f"`, width, height)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" role="img" %s viewBox="0 0 %.0f %.0f">`+"\n"+
		"<title>%s</title>\n<style>%s</style>\n<rect %s/>\n%s</svg>\n", size, width, height, escape(title), style, size,
		c.body.String())
}

// Width is how many pixels a text may take.
func Width(text string) float64 { return float64(screen.Width(text)) * Column }

// Cut makes a text of a stranger one line of at most so many columns of printable characters.
func Cut(text string, columns int) string {
	if len(text) > 8*columns { // a mark takes no column of its own: a text has no length that columns bound
		text = text[:8*columns]
	}
	text = strings.ReplaceAll(screen.InLine(text), "\t", " ")
	s := screen.Screen{Columns: columns, Fancy: true}
	return s.Fit(text)
}

// escape makes a text part of an XML document.
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
