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
	s := newScaler(in.Width, in.Height, w, h, func(rgb []byte) {
		end := len(out.pixels)
		out.pixels = out.pixels[:end+w*l.Size]
		for to := out.pixels[end:]; len(rgb) >= 3; rgb, to = rgb[3:], to[l.Size:] {
			l.Put(to, rgb[0], rgb[1], rgb[2])
		}
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
	emit                func(rgb []byte)

	y    int      // rows that were added
	out  int      // rows that were emitted
	line []uint32 // one row, in the new width
	sum  []uint64 // of the lines that belong to the next row
	rgb  []byte
}

func newScaler(w, h, width, height int, emit func([]byte)) *scaler {
	return &scaler{w: w, h: h, width: width, height: height, emit: emit,
		line: make([]uint32, 3*width), sum: make([]uint64, 3*width), rgb: make([]byte, 3*width)}
}

// add takes a row of rgba.
func (s *scaler) add(rgba []byte) {
	s.narrow(rgba)
	from, to := s.y*s.height, (s.y+1)*s.height
	for s.y++; from < to; {
		border := (s.out + 1) * s.h
		part := min(border, to) - from
		sum := s.sum[:len(s.line)]
		for i, v := range s.line {
			sum[i] += uint64(part) * uint64(v)
		}
		if from += part; from == border {
			s.flush()
		}
	}
}

func (s *scaler) flush() {
	area := uint64(s.w) * uint64(s.h)
	rgb := s.rgb[:len(s.sum)]
	for i, v := range s.sum {
		rgb[i] = byte((v + area/2) / area)
	}
	clear(s.sum)
	s.out++
	s.emit(s.rgb)
}

// narrow puts a row into line: for each pixel the sum of the w parts that it covers.
func (s *scaler) narrow(rgba []byte) {
	at, border, from := 0, s.w, 0
	var r, g, b, red, green, blue uint32 // of this pixel, and the sums of the parts
	line, known := s.line, ^binary.LittleEndian.Uint32(rgba)
	for rgba = rgba[:4*s.w]; len(rgba) > 0; rgba = rgba[4:] {
		if pixel := binary.LittleEndian.Uint32(rgba); pixel != known { // most are as the one before
			known = pixel
			r, g, b = over(rgba)
		}
		to := from + s.width
		for ; to >= border; border += s.w {
			part := uint32(border - from)
			out := line[at : at+3]
			out[0], out[1], out[2] = red+part*r, green+part*g, blue+part*b
			red, green, blue, from = 0, 0, 0, border
			at += 3
		}
		part := uint32(to - from)
		red, green, blue, from = red+part*r, green+part*g, blue+part*b, to
	}
}

// over is a pixel before the background.
func over(rgba []byte) (r, g, b uint32) {
	opacity := uint32(rgba[3])
	if opacity == 0xff {
		return uint32(rgba[0]), uint32(rgba[1]), uint32(rgba[2])
	}
	under := background * (0xff - opacity)
	blend := func(v byte) uint32 { return (uint32(v)*opacity + under + 127) / 255 }
	return blend(rgba[0]), blend(rgba[1]), blend(rgba[2])
}
