package rowpng

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// decode reads a whole picture.
func decode(file []byte) (Header, []byte, error) {
	r, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return Header{}, nil, err
	}
	var all []byte
	row := make([]byte, 4*r.Width)
	for {
		err := r.Row(row)
		if errors.Is(err, io.EOF) {
			return r.Header, all, nil
		}
		if err != nil {
			return r.Header, nil, err
		}
		all = append(all, row...)
	}
}

// peer decodes with the standard library.
func peer(t *testing.T, file []byte) []byte {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatalf("the standard library refuses what this package takes: %v", err)
	}
	var all []byte
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			c := color.NRGBAModel.Convert(picture.At(x, y)).(color.NRGBA)
			if wide, ok := picture.At(x, y).(color.NRGBA64); ok { // without a detour over premultiplied colours
				c = color.NRGBA{uint8(wide.R >> 8), uint8(wide.G >> 8), uint8(wide.B >> 8), uint8(wide.A >> 8)}
			}
			all = append(all, c.R, c.G, c.B, c.A)
		}
	}
	return all
}

// raw makes a file of rows that have their filters.
func raw(h Header, interlace byte, before map[string][]byte, order []string, rows []byte, parts int) []byte {
	var b bytes.Buffer
	b.Write(signature[:])
	chunk := func(kind string, content []byte) {
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(content))))
		b.WriteString(kind)
		b.Write(content)
		sum := crc32.Update(crc32.ChecksumIEEE([]byte(kind)), crc32.IEEETable, content)
		b.Write(binary.BigEndian.AppendUint32(nil, sum))
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(h.Width))
	head = binary.BigEndian.AppendUint32(head, uint32(h.Height))
	chunk("IHDR", append(head, byte(h.Depth), byte(h.Color), 0, 0, interlace))
	for _, kind := range order {
		chunk(kind, before[kind])
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write(rows)
	z.Close()
	data := packed.Bytes()
	for i := range parts {
		chunk("IDAT", data[i*len(data)/parts:(i+1)*len(data)/parts])
	}
	chunk("IEND", nil)
	return b.Bytes()
}

// pattern gives rows whose filters go through all five and whose bytes look random.
func pattern(h Header) []byte {
	var rows []byte
	state := uint32(h.Depth*7 + int(h.Color))
	for y := range h.Height {
		rows = append(rows, byte(y%5))
		for range (h.Width*h.bitsPerPixel() + 7) / 8 {
			state = state*1664525 + 1013904223
			rows = append(rows, byte(state>>24))
		}
	}
	return rows
}

// TestKinds: each kind of sample, with and without transparency, gives the pixels that the standard library gives.
func TestKinds(t *testing.T) {
	palette := bytes.Repeat([]byte{1, 2, 3, 250, 128, 7, 9, 99, 200, 31, 41, 59}, 64)
	for kind, k := range kinds {
		for depth := 1; depth <= 16; depth *= 2 {
			if k.samples == 0 || k.depths&(1<<depth) == 0 {
				continue
			}
			h := Header{Width: 37, Height: 21, Depth: depth, Color: Color(kind)}
			for _, clear := range []bool{false, true} {
				before, order := map[string][]byte{"tEXt": []byte("a\x00b")}, []string{"tEXt"}
				switch h.Color {
				case Palette:
					before["PLTE"], order = palette[:3<<depth], append(order, "PLTE")
					before["tRNS"] = []byte{0, 100}
				case Gray:
					before["tRNS"] = []byte{0, 1}
				case RGB:
					before["tRNS"] = []byte{0, 1, 0, 2, 0, 3}
				}
				if clear && before["tRNS"] == nil {
					continue
				}
				if clear {
					order = append(order, "tRNS")
				}
				file := raw(h, 0, before, order, pattern(h), 3)
				got, pixels, err := decode(file)
				if err != nil || got != h {
					t.Fatalf("%+v: %+v, %v", h, got, err)
				}
				if want := peer(t, file); !bytes.Equal(pixels, want) {
					t.Errorf("%+v, transparency %t: pixels differ: %v, want %v", h, clear, pixels[:24], want[:24])
				}
			}
		}
	}
}

// TestAreas: areas of one colour, of all widths and at all places in a row, give the pixels that the standard library
// gives.
func TestAreas(t *testing.T) {
	h := Header{Width: 61, Height: 40, Depth: 8, Color: Palette}
	var rows []byte
	for y := range h.Height {
		rows = append(rows, 0)
		for x := range h.Width {
			rows = append(rows, byte(x/(y+1))%5)
		}
	}
	palette := map[string][]byte{"PLTE": {1, 2, 3, 250, 128, 7, 9, 99, 200, 31, 41, 59, 0, 0, 0}, "tRNS": {255, 9}}
	file := raw(h, 0, palette, []string{"PLTE", "tRNS"}, rows, 1)
	_, pixels, err := decode(file)
	if err != nil || !bytes.Equal(pixels, peer(t, file)) {
		t.Errorf("pixels differ, %v", err)
	}
	rows[len(rows)-1] = 5
	if _, _, err := decode(raw(h, 0, palette, []string{"PLTE", "tRNS"}, rows, 1)); err == nil {
		t.Error("a pixel that is not in the palette is taken")
	}
}

func sample1() []byte {
	picture := image.NewNRGBA(image.Rect(0, 0, 9, 7))
	for i := range picture.Pix {
		picture.Pix[i] = byte(i * 11)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// TestRefused: what is above the limits, or no whole picture, is refused with a reason.
func TestRefused(t *testing.T) {
	good := sample1()
	if _, _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	small := Header{Width: 3, Height: 2, Depth: 8, Color: RGB}
	change := func(at int, to byte) []byte { b := bytes.Clone(good); b[at] = to; return b }
	wide := func(w, h int) []byte {
		return raw(Header{Width: w, Height: h, Depth: 1, Color: Gray}, 0, nil, nil, make([]byte, 100), 1)
	}
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "empty"},
		{"text", []byte("not a picture at all"), "no PNG"},
		{"jpeg", []byte{0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F'}, "no PNG"},
		{"signature only", good[:8], "cut off"},
		{"65000 x 65000", wide(65000, 65000), "65000 x 65000 pixels"},
		{"2^31 wide", wide(1<<31, 1), "2147483648 x 1 pixels"},
		{"no width", wide(0, 1), "0 x 1 pixels"},
		{"one too wide", wide(MostSide+1, 1), "4097 x 1 pixels"},
		{"interlaced", raw(small, 1, nil, nil, pattern(small), 1), "interlaced"},
		{"unknown depth", raw(Header{Width: 1, Height: 1, Depth: 3, Color: RGB}, 0, nil, nil, nil, 1), "3 bits"},
		{"palette missing", raw(Header{Width: 1, Height: 1, Depth: 8, Color: Palette}, 0, nil, nil, pattern(small), 1),
			"no palette"},
		{"unknown chunk", raw(small, 0, map[string][]byte{"ABCD": nil}, []string{"ABCD"}, pattern(small), 1), "ABCD"},
		{"two palettes",
			raw(small, 0, map[string][]byte{"PLTE": {1, 2, 3}}, []string{"PLTE", "PLTE"}, pattern(small), 1),
			"palette"},
		{"too few rows", raw(small, 0, nil, nil, pattern(small)[:12], 1), "unpack row 1"},
		{"too many rows", raw(small, 0, nil, nil, append(pattern(small), 0, 0, 0), 1), "do not end"},
		{"unknown filter", raw(small, 0, nil, nil, append([]byte{9}, make([]byte, 19)...), 1), "filter"},
		{"no rows", raw(small, 0, map[string][]byte{"IEND": nil}, []string{"IEND"}, nil, 1), "no rows"},
		{"damaged header", change(20, 5), ""},
		{"damaged rows", change(len(good)-25, good[len(good)-25]^1), ""},
		{"damaged sum", change(len(good)-14, good[len(good)-14]^1), ""},
		{"end missing", good[:len(good)-12], "cut off"},
		{"palette too short", raw(Header{Width: 4, Height: 1, Depth: 8, Color: Palette}, 0,
			map[string][]byte{"PLTE": {1, 2, 3}}, []string{"PLTE"}, []byte{0, 0, 0, 7, 0}, 1), "not in the palette"},
	} {
		_, _, err := decode(tt.file)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for i := range good {
		_, _, err := decode(good[:i])
		if err == nil || i >= len(signature) && !strings.Contains(err.Error(), "cut off") {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
	if _, err := Open(bytes.NewReader(good), 200<<20); err == nil || !strings.Contains(err.Error(), "209715200 bytes") {
		t.Errorf("a file of 200 MB: %v", err)
	}
}

// TestMemory: neither a refused picture nor the widest one takes more than its rows, of which the reader keeps two. A
// picture that is too large is refused after the first read.
func TestMemory(t *testing.T) {
	tall := Header{Width: MostSide, Height: MostSide, Depth: 16, Color: RGBAlpha}
	row := make([]byte, 8*MostSide+1)
	var rows bytes.Buffer
	for range 64 { // of 4096: that they are missing is found only behind them
		rows.Write(row)
	}
	rgba := make([]byte, 4*MostSide)
	var reads counter
	used := func(name string, file []byte) (*Reader, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		reads = counter{from: bytes.NewReader(file)}
		r, err := Open(&reads, int64(len(file)))
		for n := 0; err == nil && n < 64; n++ {
			err = r.Row(rgba)
		}
		runtime.ReadMemStats(&after)
		took := after.TotalAlloc - before.TotalAlloc
		if t.Logf("%s: %d bytes", name, took); testenv.Figures() && took > 400<<10 {
			t.Errorf("%s: %d bytes, want at most 400 KiB", name, took)
		}
		return r, err
	}
	r, err := used("widest", raw(tall, 0, nil, nil, rows.Bytes(), 2))
	if err != nil || cap(r.row) != len(row) || cap(r.above) != len(row) {
		t.Errorf("widest: %v, rows of %d and %d bytes, want %d", err, cap(r.row), cap(r.above), len(row))
	}
	noise := make([]byte, 1<<20) // does not become shorter
	rand.NewChaCha8([32]byte{}).Read(noise)
	_, err = used("bomb", raw(Header{Width: 65000, Height: 65000, Depth: 8, Color: RGB}, 0, nil, nil, noise, 2))
	if err == nil || reads.n != 1 {
		t.Errorf("bomb: %v after %d reads", err, reads.n)
	}
}

// counter counts the reads of a file.
type counter struct {
	from io.Reader
	n    int
}

func (c *counter) Read(p []byte) (int, error) {
	c.n++
	return c.from.Read(p)
}

// FuzzOpen: no file makes the decoder panic or give more rows than it says; what it takes, the standard library takes
// too, with the same pixels.
func FuzzOpen(f *testing.F) {
	f.Add(sample1())
	for _, h := range []Header{
		{3, 2, 8, RGB}, {5, 3, 1, Gray}, {4, 4, 16, RGBAlpha}, {3, 3, 4, GrayAlpha}, {65000, 65000, 8, RGB},
	} {
		f.Add(raw(h, 0, nil, nil, pattern(Header{Width: 4, Height: 4, Depth: 8, Color: RGB}), 2))
	}
	f.Add(raw(Header{2, 2, 2, Palette}, 0, map[string][]byte{"PLTE": {1, 2, 3, 4, 5, 6}, "tRNS": {9}},
		[]string{"PLTE", "tRNS"}, []byte{0, 0, 1, 0x40}, 1))
	f.Fuzz(func(t *testing.T, file []byte) {
		fixSums(file)
		h, pixels, err := decode(file)
		if err != nil {
			return
		}
		if len(pixels) != 4*h.Width*h.Height {
			t.Fatalf("%+v has %d bytes", h, len(pixels))
		}
		if want := peer(t, file); !bytes.Equal(pixels, want) {
			t.Errorf("%+v: pixels differ", h)
		}
	})
}

// fixSums sets the sums of the chunks right, so that changes of their content get further than that.
func fixSums(file []byte) {
	for at := len(signature); at+12 <= len(file); {
		size := int(binary.BigEndian.Uint32(file[at:]))
		if size > len(file)-at-12 {
			return
		}
		end := at + 8 + size
		binary.BigEndian.PutUint32(file[end:], crc32.ChecksumIEEE(file[at+4:end]))
		at = end + 4
	}
}
