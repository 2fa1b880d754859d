// Package picturetest judges pictures in tests: each must be well-formed XML that needs nothing from elsewhere, with
// all that is drawn inside the view and no text on another. It owns no picture, and never opens a viewer. Read Check
// first.
package picturetest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"resinos/init/osctl/picture"
)

// maxSize is the largest picture in bytes, whatever is drawn.
const maxSize = 300_000

// box is a rectangle in pixels.
type box struct {
	x1, y1, x2, y2 float64
	text           string
}

// Check reports every fault of a picture, and returns the texts that can be read in it.
func Check(t testing.TB, svg string) (texts []string) {
	t.Helper()
	if len(svg) > maxSize {
		t.Errorf("the picture has %d bytes, want at most %d", len(svg), maxSize)
	}
	view, boxes, err := read(svg)
	if err != nil {
		t.Fatalf("read the picture: %v\n%s", err, svg)
	}
	var labels []box
	for _, b := range boxes {
		if b.x1 < 0 || b.y1 < 0 || b.x2 > view.x2 || b.y2 > view.y2 || b.x1 > b.x2 || b.y1 > b.y2 {
			t.Errorf("%+v is not inside the view %+v", b, view)
		}
		if b.text == "" {
			continue
		}
		for _, other := range labels {
			if b.x1 < other.x2 && other.x1 < b.x2 && b.y1 < other.y2 && other.y1 < b.y2 {
				t.Errorf("the text %+v is on the text %+v", b, other)
			}
		}
		labels, texts = append(labels, b), append(texts, b.text)
	}
	return texts
}

// read lists the boxes of all that is drawn.
func read(svg string) (view box, boxes []box, err error) {
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			if len(boxes) == 0 {
				return view, nil, errors.New("nothing is drawn")
			}
			return view, boxes, nil
		}
		if err != nil {
			return view, nil, err
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		a := attributes(element)
		switch element.Name.Local {
		case "svg":
			_, err = fmt.Sscanf(a["viewBox"], "%f %f %f %f", &view.x1, &view.y1, &view.x2, &view.y2)
		case "rect":
			x, y := number(a["x"]), number(a["y"])
			boxes = append(boxes, box{x, y, x + number(a["width"]), y + number(a["height"]), ""})
		case "circle":
			x, y, r := number(a["cx"]), number(a["cy"]), number(a["r"])
			boxes = append(boxes, box{x - r, y - r, x + r, y + r, ""})
		case "path":
			var x1, y1, x2, y2 float64
			_, err = fmt.Sscanf(a["d"], "M%f %fH%fV%f", &x1, &y1, &x2, &y2)
			boxes = append(boxes, box{min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), ""})
		case "text":
			var content string
			err = decoder.DecodeElement(&content, &element)
			boxes = append(boxes, label(a, content))
		case "title", "style":
		default:
			err = fmt.Errorf("an element %s, which a self-contained picture does not need", element.Name.Local)
		}
		if err != nil {
			return view, nil, err
		}
	}
}

// label is where a text is: a character of 12 pixels reaches 10 pixels above its base line and 3 below.
func label(a map[string]string, text string) box {
	classes := strings.Fields(a["class"])
	width, y, size := picture.Width(text), number(a["y"]), 1.0
	b := box{number(a["x"]), 0, 0, 0, text}
	for _, class := range classes {
		if class == "title" {
			size = 16.0 / 12
		}
	}
	width *= size
	for _, class := range classes {
		switch class {
		case "end":
			b.x1 -= width
		case "mid":
			b.x1 -= width / 2
		}
	}
	b.x2, b.y1, b.y2 = b.x1+width, y-10*size, y+3*size
	return b
}

// attributes are those of an element.
func attributes(element xml.StartElement) map[string]string {
	a := map[string]string{}
	for _, attr := range element.Attr {
		a[attr.Name.Local] = attr.Value
	}
	return a
}

// number is that of an attribute, and far outside of every view if it is none.
func number(text string) float64 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != n {
		return -1e9
	}
	return n
}
