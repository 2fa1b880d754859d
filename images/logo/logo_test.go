package logo

import (
	"bytes"
	"image"
	"image/png"
	"testing"
)

// TestPNG: the file is small, the same each time, and shows a drop on a transparent ground.
func TestPNG(t *testing.T) {
	one := PNG()
	if !bytes.Equal(one, PNG()) {
		t.Error("two calls differ")
	}
	if len(one) > 64<<10 {
		t.Errorf("%d bytes", len(one))
	}
	picture, err := png.Decode(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	opacity := func(x, y int) uint32 { _, _, _, a := picture.At(x, y).RGBA(); return a >> 8 }
	for _, tt := range []struct {
		x, y int
		want uint32
	}{{0, 0, 0}, {Width - 1, 0, 0}, {0, Height - 1, 0}, {centerX, 60, 255}, {centerX, centerY, 255}, {100, 100, 0}} {
		if got := opacity(tt.x, tt.y); got != tt.want {
			t.Errorf("opacity at %d, %d is %d, want %d", tt.x, tt.y, got, tt.want)
		}
	}
	if paletted, is := picture.(*image.Paletted); !is {
		t.Errorf("the file has no palette: %T", picture)
	} else {
		t.Logf("%d bytes, %d colours", len(one), len(paletted.Palette))
	}
}
