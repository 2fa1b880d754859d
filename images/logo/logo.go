// Package logo draws the logo of an image: a drop of resin, as a PNG file that the owner may replace
// (splash/resin-logo.png on the boot partition). It is code, so that the tree contains no picture. Read PNG.
package logo

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
)

// The size of the logo in pixels: more than most screens show of it, so that it is made smaller and not larger.
const (
	Width  = 480
	Height = 640
)

// fine is how many parts a pixel has in each direction, to make borders smooth.
const fine = 4

// The drop is a circle and what lies between the two tangents from its tip; a second circle in it is brighter.
const (
	centerX, centerY, radius = Width / 2, 424.0, 200.0
	tipY                     = 16.0
	shineX, shineY, shine    = centerX - 66, centerY + 40, 74.0
)

// The steps between two colours. So few that all colours fit into a palette: such a file has one byte for a pixel, and
// the device unpacks it in half of the time. Nobody sees them, because most screens show the logo smaller.
const (
	bands  = 48 // from the top to the bottom
	edges  = 4  // from the drop to what is around it
	shines = 2  // from the drop to its bright part
)

// PNG returns the file: opaque on the drop, transparent around it.
func PNG() []byte {
	picture := image.NewPaletted(image.Rect(0, 0, Width, Height), nil)
	known := map[color.NRGBA]uint8{}
	for y := range Height {
		for x := range Width {
			drop, bright := cover(x, y)
			c := shade(steps(float64(y)/Height, bands), steps(drop, edges), steps(bright, shines))
			index, there := known[c]
			if !there {
				index = uint8(len(known)) // the encoder refuses more than 256
				known[c] = index
				picture.Palette = append(picture.Palette, c)
			}
			picture.SetColorIndex(x, y, index)
		}
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&b, picture); err != nil {
		panic(fmt.Sprintf("encode logo: %v", err)) // neither the picture nor a buffer has a fault
	}
	return b.Bytes()
}

// cover returns how much of a pixel is in the drop, and in its bright part.
func cover(x, y int) (drop, bright float64) {
	for i := range fine {
		for j := range fine {
			px, py := float64(x)+(float64(i)+0.5)/fine, float64(y)+(float64(j)+0.5)/fine
			if inDrop(px, py) {
				drop++
			}
			if math.Hypot(px-shineX, py-shineY) < shine && math.Hypot(px-shineX-38, py-shineY+30) > shine {
				bright++
			}
		}
	}
	return drop / (fine * fine), bright / (fine * fine)
}

func inDrop(x, y float64) bool {
	if math.Hypot(x-centerX, y-centerY) < radius {
		return true
	}
	// The tangents touch the circle where the angle at the tip has this sine.
	sine := radius / (centerY - tipY)
	touch := centerY - radius*sine
	return y > tipY && y < touch && math.Abs(x-centerX) < (y-tipY)*sine/math.Sqrt(1-sine*sine)
}

// steps rounds a part of one.
func steps(part float64, count int) float64 { return math.Round(part*float64(count)) / float64(count) }

// shade mixes amber that becomes darker downwards with white.
func shade(down, drop, bright float64) color.NRGBA {
	if drop == 0 {
		return color.NRGBA{}
	}
	mix := func(top, bottom float64) uint8 {
		v := top + (bottom-top)*down
		return uint8(math.Round(v + (255-v)*0.6*bright))
	}
	return color.NRGBA{R: mix(0xfb, 0xc8), G: mix(0xc0, 0x5a), B: mix(0x3c, 0x0c), A: uint8(math.Round(255 * drop))}
}
