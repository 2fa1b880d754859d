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
	out := &drawn{width: w, height: h, size: l.Size, pixels: plain(l, w*h)}
	s := newScaler(in.Width, in.Height, w, h, func(x, y int, rgb []uint32) {
		l.PutRow(out.pixels[(y*w+x)*l.Size:], rgb)
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

// plain is so many pixels of background.
func plain(l framebuffer.Layout, count int) []byte {
	pixels := make([]byte, count*l.Size)
	l.Put(pixels, background, background, background)
	for n := l.Size; n < len(pixels); n *= 2 {
		copy(pixels[n:], pixels[:n])
	}
	return pixels
}

// draw draws the logo in the middle of the screen, and the background around it.
func draw(s *framebuffer.Screen, logo *drawn) error {
	empty := plain(s.Layout, s.Width)
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
// whole numbers, so nothing is rounded before the end. It computes no pixel that is left or right of all that differs
// from the background.
type scaler struct {
	w, h, width, height int // of the picture, and of what it becomes
	emit                func(x, y int, rgb []uint32)

	y    int       // rows that were added
	out  int       // rows that were emitted
	line []mixture // one row, in the new width
	seen span      // of it that is not background
	sum  []mixture // of the lines that belong to the next row
	part span      // of it that is not background
	done int       // how much of the next row is in sum
	rgb  []uint32
}

// span is a part of a row, empty if from is to.
type span struct{ from, to int }

// mixture is a colour, or a sum of some: two of 32 bits in one number, so that both are computed at once. The largest
// sum is that of all of a picture, 255 x 4096 x 4096, which has 32 bits.
type mixture struct{ redGreen, blue uint64 }

func (c mixture) times(part int) mixture {
	return mixture{uint64(part) * c.redGreen, uint64(part) * c.blue}
}

func (c mixture) plus(d mixture) mixture { return mixture{c.redGreen + d.redGreen, c.blue + d.blue} }

func newScaler(w, h, width, height int, emit func(x, y int, rgb []uint32)) *scaler {
	return &scaler{w: w, h: h, width: width, height: height, emit: emit,
		line: make([]mixture, width), sum: make([]mixture, width), rgb: make([]uint32, width)}
}

// white is a pixel of the background.
var white = mixture{background | background<<32, background}

// add takes a row of rgba.
func (s *scaler) add(rgba []byte) {
	s.narrow(rgba[:4*s.w])
	from, to := s.y*s.height, (s.y+1)*s.height
	for s.y++; from < to; {
		border := (s.out + 1) * s.h
		part := min(border, to) - from
		s.accumulate(part)
		if from += part; from == border {
			s.flush()
		}
	}
}

// accumulate adds so many parts of the line.
func (s *scaler) accumulate(part int) {
	if s.seen.from < s.seen.to {
		s.widen(s.seen)
	}
	plain := white.times(s.w * part)
	for i := s.part.from; i < s.part.to; i++ {
		if i == s.seen.from && s.seen.from < s.seen.to {
			line, sum := s.line[i:s.seen.to], s.sum[i:s.seen.to]
			for j := range sum {
				sum[j].redGreen += uint64(part) * line[j].redGreen
				sum[j].blue += uint64(part) * line[j].blue
			}
			i = s.seen.to - 1
			continue
		}
		s.sum[i] = s.sum[i].plus(plain)
	}
	s.done += part
}

// widen makes room for a span in sum. What is new of it was background so far.
func (s *scaler) widen(to span) {
	if s.part.from == s.part.to {
		s.part = span{to.from, to.from}
	}
	plain := white.times(s.w * s.done)
	for s.part.from > to.from {
		s.part.from--
		s.sum[s.part.from] = plain
	}
	for ; s.part.to < to.to; s.part.to++ {
		s.sum[s.part.to] = plain
	}
}

// flush emits a row. Most pixels are as the one before, and cost no division.
func (s *scaler) flush() {
	area := uint64(s.w) * uint64(s.h)
	var known mixture // of no area, and black
	var pixel uint32
	sums := s.sum[s.part.from:s.part.to]
	rgb := s.rgb[:len(sums)]
	for i, sum := range sums {
		if sum != known {
			known = sum
			red, green := (sum.redGreen&0xffffffff+area/2)/area, (sum.redGreen>>32+area/2)/area
			pixel = uint32(red<<16 | green<<8 | (sum.blue+area/2)/area)
		}
		rgb[i] = pixel
	}
	s.emit(s.part.from, s.out, rgb)
	s.part, s.done = span{}, 0
	s.out++
}

// narrow puts a row into line: for each pixel the sum of the w parts that it covers. It takes all pixels at once that
// have the same colour, because a logo has large areas of one. Of the background at both ends nothing is in line.
func (s *scaler) narrow(rgba []byte) {
	s.seen = span{}
	at, from, border := 0, 0, s.w
	var sum mixture // of the parts of the next pixel
	for len(rgba) > 0 {
		count := alike(rgba)
		c := over(rgba)
		rgba = rgba[4*count:]
		to := from + count*s.width
		if c != white {
			if s.seen.to == 0 {
				s.seen.from = at
			}
			s.seen.to = (to + s.w - 1) / s.w
		} else if s.seen.to == 0 || len(rgba) == 0 { // at an end
			if to >= border && from > border-s.w {
				s.line[at] = sum.plus(c.times(border - from))
			}
			at, from = to/s.w, to
			border = (at + 1) * s.w
			sum = c.times(to - at*s.w)
			continue
		}
		if to >= border {
			s.line[at] = sum.plus(c.times(border - from))
			at++
			whole := c.times(s.w)
			for line := s.line[at : at+(to-border)/s.w]; len(line) > 0; line = line[1:] {
				line[0] = whole
				at++
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
