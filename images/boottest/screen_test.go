package boottest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"math"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// screenOf returns the QEMU arguments for a screen of 1280 x 800 pixels. OVMF draws on that of a PC, and Linux has it
// before PID 1 runs; U-Boot cannot, so the other one is there when its driver is.
func screenOf(board string) []string {
	if board == "qemu-x86_64" {
		return []string{"-device", "VGA"}
	}
	return []string{"-device", "virtio-gpu-pci"}
}

// screen TIMEOUT LOGO: waits until the screen shows a PNG file as docs/device.md says: half as large as the screen, in
// the middle of white. screen TIMEOUT plain RRGGBB: all of the screen has one colour.
func cmdScreen(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && (len(args) == 2 || len(args) == 3 && args[1] == "plain"), "screen TIMEOUT LOGO|plain RRGGBB")
	timeout, err := time.ParseDuration(args[0])
	ts.Check(err)
	var want func(bounds image.Rectangle) image.Image
	if len(args) == 3 {
		rgb, err := hex.DecodeString(args[2])
		ts.Check(err)
		want = func(image.Rectangle) image.Image {
			return image.NewUniform(color.NRGBA{rgb[0], rgb[1], rgb[2], 0xff})
		}
	} else {
		logo, err := readPNG(ts.MkAbs(args[1]))
		ts.Check(err)
		drawn := map[image.Rectangle]image.Image{}
		want = func(bounds image.Rectangle) image.Image {
			if drawn[bounds] == nil {
				drawn[bounds] = expected(logo, bounds)
			}
			return drawn[bounds]
		}
	}
	s := sceneOf(ts)
	ctx, cancel := context.WithTimeout(s.ctx, hostLimit(timeout))
	defer cancel()
	file := ts.MkAbs("screen.png")
	for {
		var got image.Image
		fault := s.shoot(ctx, file)
		if fault == nil {
			if got, fault = readPNG(file); fault == nil {
				fault = same(got, want(got.Bounds()))
			}
		}
		if fault == nil {
			return
		}
		if ctx.Err() == nil || err == nil {
			err = fault
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			ts.Fatalf("screen %q: not within %v: %v; see %s", args[1:], timeout, err, file)
		}
	}
}

// shoot has QEMU write what the screen shows.
func (s *scene) shoot(ctx context.Context, file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.device.Guest().QMP().Do(ctx, "screendump", map[string]string{"filename": file, "format": "png"}, nil)
}

func readPNG(file string) (image.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing is written
	return png.Decode(f)
}

// same compares each pixel. The device rounds twice, and the peer below not at all.
func same(got, want image.Image) error {
	b := got.Bounds()
	differ, most := 0, 0
	for y := range b.Dy() {
		for x := range b.Dx() {
			r, g, b, _ := got.At(x, y).RGBA()
			r2, g2, b2, _ := want.At(x, y).RGBA()
			for _, pair := range [][2]uint32{{r, r2}, {g, g2}, {b, b2}} {
				off := int(pair[0]>>8) - int(pair[1]>>8)
				if off = max(off, -off); off > 2 {
					differ, most = differ+1, max(most, off)
				}
			}
		}
	}
	if differ > 0 {
		return fmt.Errorf("%d colours of %d x %d pixels differ, by %d at most", differ, b.Dx(), b.Dy(), most)
	}
	return nil
}

// expected computes a screen with a logo from the definition, pixel by pixel: it shares no code with the device, and
// decodes with the standard library.
func expected(logo image.Image, screen image.Rectangle) image.Image {
	out := image.NewNRGBA(screen)
	lw, lh := float64(logo.Bounds().Dx()), float64(logo.Bounds().Dy())
	scale := math.Min(float64(screen.Dx()/2)/lw, float64(screen.Dy()/2)/lh)
	w, h := int(math.Round(lw*scale)), int(math.Round(lh*scale))
	left, top := (screen.Dx()-w)/2, (screen.Dy()-h)/2
	for y := range screen.Dy() {
		for x := range screen.Dx() {
			c := color.NRGBA{0xff, 0xff, 0xff, 0xff}
			if x >= left && x < left+w && y >= top && y < top+h {
				c = area(logo, float64(x-left)*lw/float64(w), float64(x-left+1)*lw/float64(w),
					float64(y-top)*lh/float64(h), float64(y-top+1)*lh/float64(h))
			}
			out.SetNRGBA(x, y, c)
		}
	}
	return out
}

// area is the average of a part of a picture before white.
func area(p image.Image, x0, x1, y0, y1 float64) color.NRGBA {
	var sum [3]float64
	for j := int(y0); float64(j) < y1 && j < p.Bounds().Dy(); j++ {
		for i := int(x0); float64(i) < x1 && i < p.Bounds().Dx(); i++ {
			part := (math.Min(x1, float64(i+1)) - math.Max(x0, float64(i))) *
				(math.Min(y1, float64(j+1)) - math.Max(y0, float64(j))) / ((x1 - x0) * (y1 - y0))
			r, g, b, a := p.At(p.Bounds().Min.X+i, p.Bounds().Min.Y+j).RGBA() // colours are multiplied with opacity
			for n, v := range []uint32{r, g, b} {
				sum[n] += part * float64(v+0xffff-a) / 0x101
			}
		}
	}
	return color.NRGBA{uint8(math.Round(sum[0])), uint8(math.Round(sum[1])), uint8(math.Round(sum[2])), 0xff}
}
