package rowpng

import (
	"encoding/binary"
	"errors"
)

// unfilter gives a row its bytes, in place (9.2). above is the row before, unfiltered; step is the distance to the byte
// on the left that belongs to the same sample.
func unfilter(filter byte, row, above []byte, step int) error {
	above = above[:len(row)]
	switch filter {
	case 0:
	case 1:
		for i := step; i < len(row); i++ {
			row[i] += row[i-step]
		}
	case 2:
		above, rest := above, row // eight bytes at a time: the highest bit of each is added without its carry
		for low := uint64(0x7f7f7f7f7f7f7f7f); len(rest) >= 8; rest, above = rest[8:], above[8:] {
			a, b := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(above)
			binary.LittleEndian.PutUint64(rest, (a&low+b&low)^(a^b)&^low)
		}
		for i, up := range above {
			rest[i] += up
		}
	case 3:
		for i, up := range above[:min(step, len(above))] {
			row[i] += up / 2
		}
		for i := step; i < len(row); i++ {
			row[i] += byte((int(row[i-step]) + int(above[i])) / 2)
		}
	case 4:
		for i, up := range above[:min(step, len(above))] {
			row[i] += up
		}
		for i := step; i < len(row); i++ {
			row[i] += paeth(int(row[i-step]), int(above[i]), int(above[i-step]))
		}
	default:
		return errors.New("its filter is one that PNG does not know")
	}
	return nil
}

// paeth is the one of three neighbours that is nearest to a + b - c (9.4).
func paeth(a, b, c int) byte {
	toA, toB := b-c, a-c
	toC := toA + toB
	toA, toB, toC = max(toA, -toA), max(toB, -toB), max(toC, -toC)
	switch {
	case toA <= toB && toA <= toC:
		return byte(a)
	case toB <= toC:
		return byte(b)
	}
	return byte(c)
}

// expand makes pixels of the samples of a row. Of 16 bits the high ones count.
func (r *Reader) expand(row, rgba []byte) error {
	switch r.Color {
	case Palette:
		if r.Depth == 8 {
			return r.expandPalette(row, rgba)
		}
		for i := range r.Width {
			index := 4 * sample(row, i, r.Depth)
			if index >= len(r.palette) {
				return errors.New("a pixel is not in the palette")
			}
			copy(rgba[4*i:4*i+4], r.palette[index:])
		}
		return nil
	case Gray, GrayAlpha:
		r.expandGray(row, rgba)
		return nil
	case RGBAlpha:
		if r.Depth == 8 {
			copy(rgba, row)
			return nil
		}
	}
	size, samples := r.Depth/8, kinds[r.Color].samples
	for i := range r.Width {
		in, out := row[i*samples*size:], rgba[4*i:4*i+4]
		out[0], out[1], out[2], out[3] = in[0], in[size], in[2*size], 0xff
		switch {
		case samples == 4:
			out[3] = in[3*size]
		case !r.opaque && r.isClear(row, 3*i, 3):
			out[3] = 0
		}
	}
	return nil
}

// expandPalette is for a palette with a byte for each pixel: logos have large areas of one colour, so it looks at eight
// pixels at a time.
func (r *Reader) expandPalette(row, rgba []byte) error {
	for i := 0; i < r.Width; {
		index := row[i]
		if 4*int(index) >= len(r.palette) {
			return errors.New("a pixel is not in the palette")
		}
		color := uint64(binary.NativeEndian.Uint32(r.palette[4*int(index):]))
		binary.NativeEndian.PutUint32(rgba[4*i:], uint32(color))
		color |= color << 32
		for i++; len(row)-i >= 8 && binary.NativeEndian.Uint64(row[i:]) == uint64(index)*0x0101010101010101; i += 8 {
			to := rgba[4*i : 4*i+32]
			binary.NativeEndian.PutUint64(to, color)
			binary.NativeEndian.PutUint64(to[8:], color)
			binary.NativeEndian.PutUint64(to[16:], color)
			binary.NativeEndian.PutUint64(to[24:], color)
		}
	}
	return nil
}

func (r *Reader) expandGray(row, rgba []byte) {
	samples := kinds[r.Color].samples
	for i := range r.Width {
		v := sample(row, samples*i, r.Depth)
		shade, opacity := byte(v), byte(0xff)
		if r.Depth == 16 {
			shade = byte(v >> 8)
		} else if r.Depth < 8 {
			shade = byte(v * 255 / (1<<r.Depth - 1))
		}
		switch {
		case samples == 2:
			opacity = row[(2*i+1)*r.Depth/8]
		case !r.opaque && r.isClear(row, i, 1):
			opacity = 0
		}
		out := rgba[4*i : 4*i+4]
		out[0], out[1], out[2], out[3] = shade, shade, shade, opacity
	}
}

// isClear reports whether the samples from number first on are the transparent colour.
func (r *Reader) isClear(row []byte, first, count int) bool {
	for i := range count {
		if sample(row, first+i, r.Depth) != r.clear[i] {
			return false
		}
	}
	return true
}

// sample is the sample of this number; those of less than 8 bits are packed from the high end of a byte (7.2).
func sample(row []byte, number, depth int) int {
	switch depth {
	case 8:
		return int(row[number])
	case 16:
		return int(row[2*number])<<8 | int(row[2*number+1])
	}
	at := number * depth
	return int(row[at/8]) >> (8 - depth - at%8) & (1<<depth - 1)
}
