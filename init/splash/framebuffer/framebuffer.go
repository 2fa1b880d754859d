// Package framebuffer draws on a screen by its framebuffer device: it reads how the kernel has laid the pixels out,
// packs colours accordingly and writes whole rows. It writes to the device and does not map its memory, so that the
// replacement of a driver meanwhile causes an error and not a signal. It also keeps the kernel's text away from a
// picture.
//
// Read Open first. The structures and numbers are those of linux/fb.h and linux/kd.h.
package framebuffer

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of ioctl.
const (
	getVariable = 0x4600 // FBIOGET_VSCREENINFO
	putVariable = 0x4601 // FBIOPUT_VSCREENINFO
	getFixed    = 0x4602 // FBIOGET_FSCREENINFO
	setMode     = 0x4b3a // KDSETMODE
	getSwitch   = 0x5601 // VT_GETMODE
)

// field is the place of a colour in a pixel (struct fb_bitfield).
type field struct{ Offset, Length, Right uint32 }

// variable is struct fb_var_screeninfo.
type variable struct {
	Width, Height               uint32
	VirtualWidth, VirtualHeight uint32
	X, Y                        uint32 // of the visible part
	Bits, Gray                  uint32
	Red, Green, Blue, Opacity   field
	_, Activate                 uint32
	_                           [18]uint32
}

// fixed is struct fb_fix_screeninfo.
type fixed struct {
	ID                         [16]byte
	Start                      uintptr
	Size                       uint32
	Type, Auxiliary, Visual    uint32
	StepX, StepY, Wrap         uint16
	Stride                     uint32 // bytes of a row
	IO                         uintptr
	IOSize                     uint32
	Accelerator                uint32
	Capabilities, Left1, Left2 uint16
}

// What a layout must be: pixels that contain their colours, one behind the other.
const (
	packedPixels = 0 // FB_TYPE_PACKED_PIXELS
	trueColor    = 2 // FB_VISUAL_TRUECOLOR
	mostSide     = 1 << 14
)

// Layout says where a pixel is, and where its colours are in it.
type Layout struct {
	Width, Height    int   // pixels
	Stride           int   // bytes from a row to the next
	Start            int64 // byte of the first visible pixel
	Size             int   // bytes of a pixel: 2, 3 or 4
	red, green, blue field
	colors           uint32 // the bits of all three
}

// layoutOf checks what the kernel says.
func layoutOf(v variable, f fixed) (Layout, error) {
	l := Layout{Width: int(v.Width), Height: int(v.Height), Stride: int(f.Stride), Size: int(v.Bits+7) / 8,
		red: v.Red, green: v.Green, blue: v.Blue}
	l.Start = int64(v.Y)*int64(f.Stride) + int64(v.X)*int64(l.Size)
	if v.Width == 0 || v.Height == 0 || v.Width > mostSide || v.Height > mostSide {
		return l, fmt.Errorf("%d x %d pixels; 1 to %d are possible in each direction", v.Width, v.Height, mostSide)
	}
	if f.Type != packedPixels || f.Visual != trueColor || l.Size < 2 || l.Size > 4 {
		return l, fmt.Errorf("pixels of %d bits, type %d and visual %d; want 16 to 32 bits that contain the colour",
			v.Bits, f.Type, f.Visual)
	}
	for _, c := range []field{l.red, l.green, l.blue} {
		if c.Length == 0 || c.Length > 8 || c.Offset > 32 || c.Offset+c.Length > uint32(8*l.Size) || c.Right != 0 {
			return l, fmt.Errorf("a colour of %d bits at bit %d of %d", c.Length, c.Offset, v.Bits)
		}
	}
	if f.Stride > 1<<20 || l.Stride < l.Width*l.Size {
		return l, fmt.Errorf("rows of %d bytes for %d pixels of %d bytes", f.Stride, l.Width, l.Size)
	}
	return l.ready(), nil
}

// ready fills in what follows from the rest.
func (l Layout) ready() Layout {
	l.colors = l.red.pack(0xff) | l.green.pack(0xff) | l.blue.pack(0xff)
	return l
}

// Put packs a colour into the first bytes of to. The bits that belong to no colour are set, as those of opacity must
// be.
func (l *Layout) Put(to []byte, red, green, blue byte) {
	v := ^l.colors | l.red.pack(red) | l.green.pack(green) | l.blue.pack(blue)
	if l.Size == 4 {
		binary.LittleEndian.PutUint32(to, v)
		return
	}
	to = to[:l.Size]
	for i := range to {
		to[i] = byte(v) // of all machines that we run on, the low byte comes first
		v >>= 8
	}
}

// PutRow packs colours, 0xRRGGBB each, one behind the other. Most are as the one before, and are not packed again.
func (l *Layout) PutRow(to []byte, rgb []uint32) {
	var pixel [4]byte
	known := ^uint32(0)
	if l.Size == len(pixel) {
		var word uint32
		to = to[:4*len(rgb)]
		for _, c := range rgb {
			if c != known {
				known = c
				l.Put(pixel[:], byte(c>>16), byte(c>>8), byte(c))
				word = binary.NativeEndian.Uint32(pixel[:])
			}
			binary.NativeEndian.PutUint32(to, word)
			to = to[4:]
		}
		return
	}
	for i, c := range rgb {
		if c != known {
			known = c
			l.Put(pixel[:], byte(c>>16), byte(c>>8), byte(c))
		}
		copy(to[l.Size*i:][:l.Size], pixel[:])
	}
}

func (c field) pack(value byte) uint32 { return uint32(value) >> (8 - c.Length) << c.Offset }

// Screen is an open framebuffer device.
type Screen struct {
	Layout
	f        *os.File
	variable variable
}

// Open opens the device of this path, such as /dev/fb0. The error wraps fs.ErrNotExist if there is no screen.
func Open(path string) (*Screen, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var v variable
	var x fixed
	err = control(f, getVariable, uintptr(unsafe.Pointer(&v)))
	if err == nil {
		err = control(f, getFixed, uintptr(unsafe.Pointer(&x)))
	}
	s := &Screen{f: f, variable: v}
	if err == nil {
		s.Layout, err = layoutOf(v, x)
	}
	if err != nil {
		f.Close() // nothing was written
		return nil, fmt.Errorf("use screen %s: %w", path, err)
	}
	return s, nil
}

// Close closes the device. What was drawn stays.
func (s *Screen) Close() error { return s.f.Close() }

// chunk is how many bytes Draw writes at once, at most, unless a row is longer.
const chunk = 256 << 10

// force has the kernel set the mode even if it is the same (FB_ACTIVATE_FORCE).
const force = 128

// lightUp has the screen show this framebuffer. A DRM driver that takes a screen over sets its mode only when text is
// to be drawn: until then the screen shows the memory of the driver before.
func (s *Screen) lightUp() {
	s.variable.Activate = force
	_ = control(s.f, putVariable, uintptr(unsafe.Pointer(&s.variable))) // a driver that has no modes refuses
}

// Draw draws all rows of the screen from the top. row fills one: Width pixels of Size bytes.
func (s *Screen) Draw(row func(y int, to []byte)) error {
	s.lightUp()
	rows := max(2, chunk/s.Stride)
	buffer := make([]byte, rows*s.Stride)
	for y, count := 0, 0; y < s.Height; y += count {
		count = min(rows, s.Height-y)
		if s.Height-y-count == 1 && count > 2 {
			count-- // of a write that is one whole row, Linux 6.12 shows nothing (drm_fb_helper_memory_range_to_clip)
		}
		for i := range count {
			row(y+i, buffer[i*s.Stride:][:s.Width*s.Size])
		}
		// What lies between the visible part of a row and the next row is nobody's.
		size := (count-1)*s.Stride + s.Width*s.Size
		if _, err := s.f.WriteAt(buffer[:size], s.Start+int64(y)*int64(s.Stride)); err != nil {
			return fmt.Errorf("draw row %d: %w", y, err)
		}
	}
	return nil
}

// Mode says who draws on a terminal of the screen.
type Mode int

// The kernel draws text, or leaves the terminal to whoever draws pictures. The mode stays when the terminal is closed.
const (
	Text     Mode = 0 // KD_TEXT
	Graphics Mode = 1 // KD_GRAPHICS
)

// SetMode sets the mode of the terminal of this path, such as /dev/tty1. It needs CAP_SYS_TTY_CONFIG.
func SetMode(path string, m Mode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	if err := control(f, setMode, uintptr(m)); err != nil {
		return fmt.Errorf("set mode of %s: %w", path, err)
	}
	return nil
}

// Release lets the kernel draw text on a terminal again, unless a program that switches terminals by itself, such as an
// X server, has it. What is no terminal of the screen stays as it is, and so does what cannot be opened.
func Release(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil // whoever opens it for its use reports that
	}
	defer f.Close()   // nothing was written
	var mode struct { // struct vt_mode
		Mode, Wait              byte
		Release, Acquire, Force int16
	}
	if control(f, getSwitch, uintptr(unsafe.Pointer(&mode))) != nil || mode.Mode != 0 { // VT_AUTO
		return nil
	}
	if err := control(f, setMode, uintptr(Text)); err != nil {
		return fmt.Errorf("set mode of %s: %w", path, err)
	}
	return nil
}

func control(f *os.File, request, argument uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, argument); errno != 0 {
		return errno
	}
	return nil
}
