package splash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"resinos/init/splash/framebuffer"
	"resinos/init/splash/rowpng"
	"resinos/mounts/plainfile"
)

// mostDrawn is the longest side of the logo on the screen. It bounds the memory for it: 16 MiB.
const mostDrawn = 2048

// background is white, as in the reference system.
const background = 0xff

// fit returns how large a logo of w x h pixels is drawn: as large as possible in half of the width and half of the
// height of the screen, as in the reference system, and with the same ratio.
func fit(w, h, screenWidth, screenHeight int) (width, height int) {
	boxW, boxH := min(screenWidth/2, mostDrawn), min(screenHeight/2, mostDrawn)
	if boxW*h < boxH*w { // the width decides
		return max(1, boxW), max(1, (2*h*boxW+w)/(2*w))
	}
	return max(1, (2*w*boxH+h)/(2*h)), max(1, boxH)
}

// drawn is a logo as it is drawn: rows of pixels in the layout of the screen.
type drawn struct {
	width, height, size int // size is the bytes of a pixel
	pixels              []byte
}

// load reads the file and scales it for the screen. All of the file is checked before anything is returned.
func load(path string, l framebuffer.Layout) (*drawn, error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing is written
	logo, err := scaled(f, l)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return logo, nil
}

func scaled(f *os.File, l framebuffer.Layout) (*drawn, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	in, err := rowpng.Open(f, info.Size())
	if err != nil {
		return nil, err
	}
	w, h := fit(in.Width, in.Height, l.Width, l.Height)
	out := &drawn{width: w, height: h, size: l.Size, pixels: make([]byte, 0, w*h*l.Size)}
	s := newScaler(in.Width, in.Height, w, h, func(rgb []uint32) {
		end := len(out.pixels)
		out.pixels = out.pixels[:end+w*l.Size]
		l.PutRow(out.pixels[end:], rgb)
	})
	row := make([]byte, 4*in.Width)
	for {
		err := in.Row(row)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		s.add(row)
	}
}

// draw draws the logo in the middle of the screen, and the background around it.
func draw(s *framebuffer.Screen, logo *drawn) error {
	empty := make([]byte, s.Width*s.Size)
	for i := 0; i < len(empty); i += s.Size {
		s.Put(empty[i:], background, background, background)
	}
	left, top := (s.Width-logo.width)/2, (s.Height-logo.height)/2
	return s.Draw(func(y int, to []byte) {
		copy(to, empty)
		if y -= top; y >= 0 && y < logo.height {
			size := logo.width * logo.size
			copy(to[left*s.Size:], logo.pixels[y*size:][:size])
		}
	})
}

// scaler changes the size of a picture row by row: each pixel is the average of the area that it covers, to the nearest
// number. With one unit for width x w parts of a row, and height x h of a column, all borders of both pictures are
// whole numbers, so nothing is rounded before the end.
type scaler struct {
	w, h, width, height int // of the picture, and of what it becomes
	emit                func(rgb []uint32)

	y    int       // rows that were added
	out  int       // rows that were emitted
	line []mixture // one row, in the new width
	sum  []mixture // of the lines that belong to the next row
	rgb  []uint32
}

// mixture is a colour, or a sum of some: two of 32 bits in one number, so that both are computed at once. The largest
// sum is that of all of a picture, 255 x 4096 x 4096, which has 32 bits.
type mixture struct{ redGreen, blue uint64 }

func (c mixture) times(part int) mixture {
	return mixture{uint64(part) * c.redGreen, uint64(part) * c.blue}
}

func (c mixture) plus(d mixture) mixture { return mixture{c.redGreen + d.redGreen, c.blue + d.blue} }

func newScaler(w, h, width, height int, emit func([]uint32)) *scaler {
	return &scaler{w: w, h: h, width: width, height: height, emit: emit,
		line: make([]mixture, width), sum: make([]mixture, width), rgb: make([]uint32, width)}
}

// add takes a row of rgba.
func (s *scaler) add(rgba []byte) {
	s.narrow(rgba[:4*s.w])
	from, to := s.y*s.height, (s.y+1)*s.height
	for s.y++; from < to; {
		border := (s.out + 1) * s.h
		part := min(border, to) - from
		sum := s.sum[:len(s.line)]
		for i := range s.line {
			sum[i].redGreen += uint64(part) * s.line[i].redGreen
			sum[i].blue += uint64(part) * s.line[i].blue
		}
		if from += part; from == border {
			s.flush()
		}
	}
}

// flush emits a row. Most pixels are as the one before, and cost no division.
func (s *scaler) flush() {
	area := uint64(s.w) * uint64(s.h)
	var known mixture // of no area, and black
	var pixel uint32
	for i, sum := range s.sum {
		if sum != known {
			known = sum
			red, green := (sum.redGreen&0xffffffff+area/2)/area, (sum.redGreen>>32+area/2)/area
			pixel = uint32(red<<16 | green<<8 | (sum.blue+area/2)/area)
		}
		s.rgb[i] = pixel
	}
	clear(s.sum)
	s.out++
	s.emit(s.rgb)
}

// narrow puts a row into line: for each pixel the sum of the w parts that it covers. It takes all pixels at once that
// have the same colour, because a logo has large areas of one.
func (s *scaler) narrow(rgba []byte) {
	at, from, border := 0, 0, s.w
	var sum mixture // of the parts of the next pixel
	for len(rgba) > 0 {
		count := alike(rgba)
		c := over(rgba)
		rgba = rgba[4*count:]
		to := from + count*s.width
		if to >= border {
			s.line[at] = sum.plus(c.times(border - from))
			whole := c.times(s.w)
			for at++; to-border >= s.w; at++ {
				s.line[at] = whole
				border += s.w
			}
			sum, from = mixture{}, border
			border += s.w
		}
		sum, from = sum.plus(c.times(to-from)), to
	}
}

// alike counts the pixels at the beginning of a row that are the same.
func alike(rgba []byte) int {
	first, n := uint64(binary.LittleEndian.Uint32(rgba)), 4
	for first |= first << 32; len(rgba)-n >= 8 && binary.LittleEndian.Uint64(rgba[n:]) == first; {
		n += 8
	}
	if len(rgba)-n >= 4 && binary.LittleEndian.Uint32(rgba[n:]) == uint32(first) {
		n += 4
	}
	return n / 4
}

// over is a pixel before the background.
func over(rgba []byte) mixture {
	blend := func(v byte) uint64 { return uint64(v) }
	if opacity := uint32(rgba[3]); opacity != 0xff {
		under := background * (0xff - opacity)
		blend = func(v byte) uint64 { return uint64((uint32(v)*opacity + under + 127) / 255) }
	}
	return mixture{blend(rgba[0]) | blend(rgba[1])<<32, blend(rgba[2])}
}
