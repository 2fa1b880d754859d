package splash

import (
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/init/splash/framebuffer"
)

func TestFit(t *testing.T) {
	for _, tt := range []struct{ w, h, screenW, screenH, wantW, wantH int }{
		{480, 640, 1280, 800, 300, 400}, // the height decides
		{640, 480, 1024, 768, 512, 384}, // both
		{1000, 10, 1280, 800, 640, 6},   // 6.4
		{10, 1000, 1280, 800, 4, 400},
		{1, 1, 1920, 1080, 540, 540}, // made larger
		{4096, 1, 640, 480, 320, 1},  // never nothing
		{4096, 4096, 16384, 16384, 2048, 2048},
		{3, 2, 1, 1, 1, 1},
	} {
		if w, h := fit(tt.w, tt.h, tt.screenW, tt.screenH); w != tt.wantW || h != tt.wantH {
			t.Errorf("fit(%d, %d, %d, %d) = %d, %d, want %d, %d",
				tt.w, tt.h, tt.screenW, tt.screenH, w, h, tt.wantW, tt.wantH)
		}
	}
}

// picture has no two rows or columns that are the same, and all degrees of opacity.
func picture(w, h int) *image.NRGBA {
	p := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			p.SetNRGBA(x, y, color.NRGBA{uint8(x*37 + y), uint8(y*91 + x*x), uint8(x * y), uint8(255 - (x*5+y*3)%256)})
		}
	}
	return p
}

// areas is a picture with areas of one colour of all widths, as logos have.
func areas(w, h int) *image.NRGBA {
	p := picture(w, h)
	for y := range h {
		for x, next, size := 1, 0, y%5; x < w; x++ {
			if x < next {
				p.SetNRGBA(x, y, p.NRGBAAt(x-1, y))
				continue
			}
			next, size = x+size, size+1
		}
		for x := range w { // background at the ends of some rows, and whole rows of it
			if x < y*7%w || x > w-y*5%w || y%6 == 0 {
				p.SetNRGBA(x, y, color.NRGBA{A: uint8(255 * (x % 2)), R: 255, G: 255, B: 255})
			}
		}
	}
	return p
}

// average computes a pixel of the screen in another way: for itself, from the whole picture, with broken numbers.
func average(p *image.NRGBA, x, y, w, h int) [3]float64 {
	sx, sy := float64(p.Rect.Dx())/float64(w), float64(p.Rect.Dy())/float64(h)
	part := func(i int, from, to float64) float64 {
		return math.Max(0, math.Min(float64(i+1), to)-math.Max(float64(i), from))
	}
	var sum [3]float64
	for j := int(float64(y) * sy); j < p.Rect.Dy() && float64(j) < float64(y+1)*sy; j++ {
		for i := int(float64(x) * sx); i < p.Rect.Dx() && float64(i) < float64(x+1)*sx; i++ {
			weight := part(i, float64(x)*sx, float64(x+1)*sx) * part(j, float64(y)*sy, float64(y+1)*sy) / (sx * sy)
			c := p.NRGBAAt(i, j)
			for n, v := range []uint8{c.R, c.G, c.B} {
				sum[n] += weight * (float64(v)*float64(c.A) + 255*float64(255-c.A)) / 255
			}
		}
	}
	return sum
}

func write(t *testing.T, p image.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logo.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, p); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLoad: a logo is the average of what each pixel covers, whether it becomes larger or smaller.
func TestLoad(t *testing.T) {
	for _, size := range [][2]int{{97, 61}, {5, 3}, {40, 60}, {1, 1}, {300, 7}} {
		p := picture(size[0], size[1])
		l := framebuffer.Layout{Width: 80, Height: 120, Size: 3}
		path := write(t, p)
		if !Plausible(path) {
			t.Errorf("%v: %s is not plausible", size, path)
		}
		logo, err := load(path, l)
		if err != nil {
			t.Fatal(err)
		}
		if len(logo.pixels) != logo.width*logo.height*3 {
			t.Fatalf("%v: %d bytes for %d x %d", size, len(logo.pixels), logo.width, logo.height)
		}
		if want := logo.width * logo.height; want == 0 || logo.width > 40 || logo.height > 60 {
			t.Errorf("%v: %d x %d", size, logo.width, logo.height)
		}
	}
}

func TestScaler(t *testing.T) {
	for _, tt := range [][4]int{
		{97, 61, 40, 25}, {98, 61, 40, 25}, {98, 61, 97, 61}, {98, 3, 400, 12}, {5, 3, 40, 24},
		{40, 60, 40, 60}, {1, 1, 9, 9}, {300, 7, 40, 1}, {7, 300, 1, 40},
	} {
		p := picture(tt[0], tt[1])
		if tt[0]%2 == 0 {
			p = areas(tt[0], tt[1])
		}
		rows := 0
		s := newScaler(tt[0], tt[1], tt[2], tt[3], func(from, y int, part []uint32) {
			if y != rows {
				t.Fatalf("%v: row %d is emitted as number %d", tt, y, rows)
			}
			rows++
			rgb := slices.Repeat([]uint32{0xffffff}, tt[2])
			copy(rgb[from:], part)
			for x := range tt[2] {
				want := average(p, x, y, tt[2], tt[3])
				for n := range 3 {
					// Blending rounds each pixel of the logo, and the end rounds once more.
					if got := float64(byte(rgb[x] >> (16 - 8*n))); math.Abs(got-want[n]) > 1.001 {
						t.Fatalf("%v: pixel %d, %d has %06x, want %v", tt, x, y, rgb[x], want)
					}
				}
			}
		})
		for j := range tt[1] {
			s.add(p.Pix[j*p.Stride:][:4*tt[0]])
		}
		if rows != tt[3] {
			t.Errorf("%v: %d rows", tt, rows)
		}
	}
}

// TestRefused: a file that is no logo ends with one line that names it.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge")
	if err := os.WriteFile(huge, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 200<<20); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		huge: "209715200 bytes", empty: "empty", dir: "", filepath.Join(dir, "missing"): "no such file",
	} {
		_, err := load(path, framebuffer.Layout{Width: 80, Height: 120, Size: 4})
		if Plausible(path) {
			t.Errorf("%s is plausible", path)
		}
		if err == nil {
			t.Errorf("%s is taken for a logo", path)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, want) || !strings.Contains(text, path) || strings.Contains(text, "\n") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
