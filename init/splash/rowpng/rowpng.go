// Package rowpng decodes a PNG file row by row, with limits that are checked before memory is taken: the author of the
// file decides neither how much memory nor how much work it costs. A Reader takes about 400 kB for the widest picture
// that it accepts. It never holds a picture, does not scale, and ignores colour spaces.
//
// Read Open first, then Reader.Row. The format is the W3C's PNG specification, second edition; comments give the
// numbers of its sections.
package rowpng

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/adler32"
	"hash/crc32"
	"io"
)

// What is accepted. A row of the widest picture has 32 KiB in a file, and all rows of the largest have 128 MiB: that is
// the work that a file of a few hundred bytes can ask for.
const (
	MostBytes = 8 << 20 // of the file
	MostSide  = 4096    // pixels, of width and height
)

// Header says what the picture is, as its first chunk does (11.2.2).
type Header struct {
	Width, Height int // pixels, 1 to MostSide
	Depth         int // bits of a sample: 1, 2, 4, 8 or 16
	Color         Color
}

// Color is the kind of the samples (11.2.2).
type Color byte

// The kinds of samples.
const (
	Gray      Color = 0
	RGB       Color = 2
	Palette   Color = 3
	GrayAlpha Color = 4
	RGBAlpha  Color = 6
)

// kinds are the samples of a pixel and the depths that each kind may have, as a set of bits (11.2.2, table 11.1).
var kinds = [...]struct{ samples, depths int }{
	Gray:      {1, 1<<1 | 1<<2 | 1<<4 | 1<<8 | 1<<16},
	RGB:       {3, 1<<8 | 1<<16},
	Palette:   {1, 1<<1 | 1<<2 | 1<<4 | 1<<8},
	GrayAlpha: {2, 1<<8 | 1<<16},
	RGBAlpha:  {4, 1<<8 | 1<<16},
}

// bitsPerPixel of a valid header.
func (h Header) bitsPerPixel() int { return kinds[h.Color].samples * h.Depth }

// Reader gives the rows of one picture, from the top. It is for one goroutine.
type Reader struct {
	Header
	chunks
	palette []byte        // RGBA of each entry
	opaque  bool          // there is no transparent colour
	clear   [3]int        // the transparent colour, in samples, unless opaque
	rows    int           // that were given
	packed  *bufio.Reader // the chunks IDAT
	sums    hash.Hash32   // of the rows so far (RFC 1950)
	flat    io.Reader     // the rows, unpacked
	row     []byte        // a filter and the bytes of a row
	above   []byte        // the row above, unfiltered
}

var errCut = errors.New("it is cut off")

var signature = [8]byte{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}

// Open reads what stands before the rows. size is that of the file in bytes. It fails for what is no PNG, is above the
// limits or is interlaced, because such a picture has no rows from the top.
func Open(file io.Reader, size int64) (*Reader, error) {
	if size == 0 {
		return nil, errors.New("the file is empty")
	}
	if size > MostBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d: save it with fewer pixels", size, MostBytes)
	}
	r := &Reader{chunks: chunks{in: bufio.NewReaderSize(io.LimitReader(file, size), 16<<10)}, opaque: true}
	var start [len(signature)]byte
	if _, err := io.ReadFull(r.in, start[:]); err != nil || start != signature {
		return nil, errors.New("it is no PNG file")
	}
	if err := r.header(); err != nil {
		return nil, err
	}
	for {
		if err := r.next(); err != nil {
			return nil, err
		}
		switch r.kind {
		case "IDAT":
			return r, r.begin()
		case "PLTE":
			if err := r.readPalette(); err != nil {
				return nil, err
			}
		case "tRNS":
			if err := r.readTransparency(); err != nil {
				return nil, err
			}
		case "IEND":
			return nil, errors.New("it has no rows")
		default:
			if r.kind[0]&0x20 == 0 {
				return nil, fmt.Errorf("it has a chunk %q, which this decoder does not know", r.kind)
			}
		}
	}
}

func (r *Reader) header() error {
	if err := r.next(); err != nil {
		return err
	}
	if r.kind != "IHDR" || r.left != 13 {
		return errors.New("it does not begin with a header")
	}
	var b [13]byte
	if err := r.read(b[:]); err != nil {
		return err
	}
	h, err := parseHeader(b)
	r.Header = h
	return err
}

// parseHeader checks the content of the chunk IHDR.
func parseHeader(b [13]byte) (Header, error) {
	width, height := binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint32(b[4:])
	if width == 0 || height == 0 || width > MostSide || height > MostSide {
		return Header{}, fmt.Errorf("it has %d x %d pixels; 1 to %d are possible in each direction",
			width, height, MostSide)
	}
	h := Header{Width: int(width), Height: int(height), Depth: int(b[8]), Color: Color(b[9])}
	if int(h.Color) >= len(kinds) || h.Depth > 16 || kinds[h.Color].depths&(1<<h.Depth) == 0 {
		return Header{}, fmt.Errorf("it has %d bits per sample of colour type %d, which PNG does not know",
			h.Depth, h.Color)
	}
	if b[10] != 0 || b[11] != 0 {
		return Header{}, errors.New("its compression or filter is one that PNG does not know")
	}
	if b[12] != 0 {
		return Header{}, errors.New("it is interlaced: save it without")
	}
	return h, nil
}

func (r *Reader) readPalette() error {
	count := r.left / 3
	if r.palette != nil || !r.opaque || r.left%3 != 0 || count == 0 || count > 256 || r.Color&RGB == 0 ||
		r.Color == Palette && count > 1<<r.Depth {
		return errors.New("its palette is malformed")
	}
	b := make([]byte, r.left)
	if err := r.read(b); err != nil {
		return err
	}
	r.palette = make([]byte, 0, 4*count)
	for ; len(b) > 0; b = b[3:] {
		r.palette = append(r.palette, b[0], b[1], b[2], 0xff)
	}
	return nil
}

// readTransparency: alpha values of the first entries of the palette, or one colour that is transparent (11.3.2.1).
func (r *Reader) readTransparency() error {
	want := map[Color]int{Gray: 2, RGB: 6}[r.Color]
	fits := r.left == want && want > 0
	if r.Color == Palette {
		fits = r.left > 0 && r.left <= len(r.palette)/4
	}
	if !fits || !r.opaque {
		return errors.New("its transparent colour is malformed")
	}
	b := make([]byte, r.left)
	if err := r.read(b); err != nil {
		return err
	}
	r.opaque = false
	for i := range b {
		if r.Color == Palette {
			r.palette[4*i+3] = b[i]
		}
	}
	for i := 0; i < want; i += 2 {
		r.clear[i/2] = int(binary.BigEndian.Uint16(b[i:]))
	}
	return nil
}

// begin makes the buffers for the rows: the only memory whose size the file decides, within the limits.
func (r *Reader) begin() error {
	if r.Color == Palette && r.palette == nil {
		return errors.New("it has no palette")
	}
	var b [2]byte
	if _, err := io.ReadFull(&data{&r.chunks}, b[:]); err != nil {
		return errCut
	}
	// RFC 1950, 2.2: method 8, no dictionary; both bytes together are a multiple of 31.
	if b[0]&0x0f != 8 || b[1]&0x20 != 0 || (int(b[0])<<8|int(b[1]))%31 != 0 {
		return errors.New("its rows are packed in a way that PNG does not know")
	}
	r.packed = bufio.NewReaderSize(&data{&r.chunks}, 4<<10)
	r.flat, r.sums = flate.NewReader(r.packed), adler32.New()
	size := 1 + (r.Width*r.bitsPerPixel()+7)/8
	r.row, r.above = make([]byte, size), make([]byte, size)
	return nil
}

// Row writes the next row into rgba, four bytes for each pixel: red, green, blue and opacity, which the colours are not
// multiplied with. Behind the last row it fails with io.EOF if the whole file is in order.
func (r *Reader) Row(rgba []byte) error {
	if r.rows == r.Height {
		return r.end()
	}
	r.row, r.above = r.above, r.row
	if _, err := io.ReadFull(r.flat, r.row); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("unpack row %d: %w", r.rows, err)
	}
	r.sums.Write(r.row) // never fails
	if err := unfilter(r.row[0], r.row[1:], r.above[1:], max(1, r.bitsPerPixel()/8)); err != nil {
		return fmt.Errorf("unpack row %d: %w", r.rows, err)
	}
	if err := r.expand(r.row[1:], rgba[:4*r.Width]); err != nil {
		return fmt.Errorf("read row %d: %w", r.rows, err)
	}
	r.rows++
	return nil
}

// end checks what is behind the rows: the sum of their bytes, and the last chunk.
func (r *Reader) end() error {
	if n, err := r.flat.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return errors.New("its rows do not end where they should")
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.packed, sum[:]); err != nil {
		return errCut
	}
	if binary.BigEndian.Uint32(sum[:]) != r.sums.Sum32() {
		return errors.New("its rows are damaged")
	}
	for r.kind != "IEND" {
		if err := r.next(); err != nil {
			return err
		}
	}
	if err := r.finish(); err != nil {
		return err
	}
	return io.EOF
}

// chunks reads the chunks of a file (5.3).
type chunks struct {
	in    *bufio.Reader
	kind  string // of the chunk that was begun last
	left  int    // bytes of it that were not read
	sum   uint32 // of what was read
	begun bool   // its sum was not compared yet
}

// next ends the chunk that was begun, and begins the one behind it.
func (c *chunks) next() error {
	if err := c.finish(); err != nil {
		return err
	}
	var b [8]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return errCut
	}
	size := binary.BigEndian.Uint32(b[:])
	if size > MostBytes {
		return fmt.Errorf("it has a chunk of %d bytes", size)
	}
	c.kind, c.left, c.sum, c.begun = string(b[4:]), int(size), crc32.ChecksumIEEE(b[4:]), true
	return nil
}

// finish reads the rest of the chunk that was begun, and compares its sum.
func (c *chunks) finish() error {
	var b [512]byte
	for c.left > 0 {
		if err := c.read(b[:min(len(b), c.left)]); err != nil {
			return err
		}
	}
	if !c.begun {
		return nil
	}
	if _, err := io.ReadFull(c.in, b[:4]); err != nil {
		return errCut
	}
	if binary.BigEndian.Uint32(b[:]) != c.sum {
		return fmt.Errorf("a chunk %q is damaged", c.kind)
	}
	c.begun = false
	return nil
}

// read fills b, which is not longer than what is left.
func (c *chunks) read(b []byte) error {
	if _, err := io.ReadFull(c.in, b); err != nil {
		return errCut
	}
	c.left -= len(b)
	c.sum = crc32.Update(c.sum, crc32.IEEETable, b)
	return nil
}

// data is the content of the chunks IDAT, one behind the other.
type data struct{ *chunks }

// Read implements io.Reader.
func (d *data) Read(b []byte) (int, error) {
	for d.kind == "IDAT" && d.left == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	if d.kind != "IDAT" {
		return 0, io.EOF
	}
	b = b[:min(len(b), d.left)]
	if err := d.read(b); err != nil {
		return 0, err // what was read so far is of no use
	}
	return len(b), nil
}
