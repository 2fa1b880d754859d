package framebuffer

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// good is what the kernel says of the screen of a virtual PC.
func good() (variable, fixed) {
	return variable{Width: 40, Height: 30, Bits: 32, Red: field{16, 8, 0}, Green: field{8, 8, 0}, Blue: field{0, 8, 0}},
		fixed{Type: packedPixels, Visual: trueColor, Stride: 192}
}

func TestLayout(t *testing.T) {
	if a, b := unsafe.Sizeof(variable{}), unsafe.Sizeof(fixed{}); a != 160 || b != 80 {
		t.Errorf("structures of %d and %d bytes, the kernel's have 160 and 80", a, b)
	}
	for _, tt := range []struct {
		name   string
		change func(*variable, *fixed)
		want   string // of the error
	}{
		{"good", func(*variable, *fixed) {}, ""},
		{"panned", func(v *variable, _ *fixed) { v.X, v.Y = 2, 3 }, ""},
		{"nothing", func(v *variable, _ *fixed) { v.Width = 0 }, "0 x 30"},
		{"too wide", func(v *variable, _ *fixed) { v.Width = 1 << 31 }, "2147483648 x 30"},
		{"palette", func(v *variable, x *fixed) { v.Bits, x.Visual = 8, 3 }, "8 bits"},
		{"text", func(_ *variable, x *fixed) { x.Type = 3 }, "type 3"},
		{"64 bits", func(v *variable, _ *fixed) { v.Bits = 64 }, "64 bits"},
		{"no red", func(v *variable, _ *fixed) { v.Red.Length = 0 }, "0 bits at bit 16"},
		{"blue outside", func(v *variable, _ *fixed) { v.Blue.Offset = 30 }, "8 bits at bit 30"},
		{"offset overflows", func(v *variable, _ *fixed) { v.Blue.Offset = ^uint32(3) }, "bit 4294967292"},
		{"mirrored", func(v *variable, _ *fixed) { v.Green.Right = 1 }, "8 bits at bit 8"},
		{"rows too short", func(_ *variable, x *fixed) { x.Stride = 159 }, "rows of 159 bytes"},
		{"rows too long", func(_ *variable, x *fixed) { x.Stride = 1 << 30 }, "rows of 1073741824 bytes"},
	} {
		v, x := good()
		tt.change(&v, &x)
		l, err := layoutOf(v, x)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if want := int64(v.Y*192 + v.X*4); err == nil && l.Start != want {
			t.Errorf("%s: starts at %d, want %d", tt.name, l.Start, want)
		}
	}
}

func TestPut(t *testing.T) {
	for _, tt := range []struct {
		layout Layout
		want   []byte
	}{
		{Layout{Size: 4, red: field{16, 8, 0}, green: field{8, 8, 0}, blue: field{0, 8, 0}},
			[]byte{0x30, 0x20, 0x90, 0xff}},
		{Layout{Size: 4, red: field{0, 8, 0}, green: field{8, 8, 0}, blue: field{16, 8, 0}},
			[]byte{0x90, 0x20, 0x30, 0xff}},
		{Layout{Size: 3, red: field{16, 8, 0}, green: field{8, 8, 0}, blue: field{0, 8, 0}}, []byte{0x30, 0x20, 0x90}},
		{Layout{Size: 2, red: field{11, 5, 0}, green: field{5, 6, 0}, blue: field{0, 5, 0}}, []byte{0x06, 0x91}},
	} {
		l := tt.layout.ready()
		got := make([]byte, l.Size)
		l.Put(got, 0x90, 0x20, 0x30)
		if !bytes.Equal(got, tt.want) {
			t.Errorf("%+v: % x, want % x", tt.layout, got, tt.want)
		}
		got = make([]byte, 5*l.Size)
		l.PutRow(got, []uint32{0x902030, 0x902030, 0, 0x902030, 0xffffff})
		black, white := make([]byte, l.Size), make([]byte, l.Size)
		l.Put(black, 0, 0, 0)
		l.Put(white, 0xff, 0xff, 0xff)
		if want := slices.Concat(tt.want, tt.want, black, tt.want, white); !bytes.Equal(got, want) {
			t.Errorf("%+v: a row % x, want % x", tt.layout, got, want)
		}
	}
}

// TestDraw: every visible byte is written, and no other.
func TestDraw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fb")
	if err := os.WriteFile(path, make([]byte, 5000*209+3000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Screen{Layout: Layout{Width: 1000, Height: 209, Stride: 5000, Start: 1000, Size: 4}, f: f}
	calls := 0
	err = s.Draw(func(y int, to []byte) {
		if y != calls || len(to) != 4000 {
			t.Errorf("row %d of %d bytes is filled as number %d", y, len(to), calls)
		}
		calls++
		for i := range to {
			to[i] = byte(y%255 + 1)
		}
	})
	if err != nil || calls != 209 {
		t.Fatalf("%d rows, %v", calls, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		y, x := (i-1000)/5000, (i-1000)%5000
		want := byte(0)
		if i >= 1000 && y < 209 && x < 4000 {
			want = byte(y%255 + 1)
		}
		if b != want {
			t.Fatalf("byte %d is %d, want %d", i, b, want)
		}
	}
}

// TestFaults: what is no framebuffer or terminal is refused.
func TestFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, path + "-missing"} {
		if s, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s) = %v, %v", path, s, err)
		}
		if err := SetMode(path, Text); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("SetMode(%s) = %v", path, err)
		}
	}
}
