package placard

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fewest are the columns and rows that the placard needs: letters are as large as this leaves them.
const (
	fewestColumns = 40
	fewestRows    = 11
)

// letters makes the letters of a terminal larger and smaller: it repeats each pixel of the font that the kernel has.
// A terminal that is not on a framebuffer keeps its letters.
type letters struct{ tty *os.File }

// font is struct console_font_op of linux/kd.h.
type font struct {
	op, flags, width, height, count uint32
	data                            unsafe.Pointer
}

// Numbers of KDFONTOP. A glyph has width/8 bytes for each row, and as many rows as the height in the question says: so
// it is with the later pair, which Linux has since 6.2; the older one has 32.
const (
	fontOperation = 0x4b72
	fontDefault   = 2 // KD_FONT_OP_SET_DEFAULT
	fontSet       = 4 // KD_FONT_OP_SET_TALL
	fontGet       = 5 // KD_FONT_OP_GET_TALL
	mostWidth     = 64
	mostHeight    = 128
	mostGlyphs    = 512
)

// large makes letters as large as they can be, and returns how many columns and rows there are.
func (l letters) large() (columns, rows int) {
	columns, rows = l.size()
	f := font{op: fontGet, width: mostWidth, height: mostHeight, count: mostGlyphs}
	if !l.control(&f) || f.width == 0 || f.height == 0 || f.width > mostWidth || f.height > mostHeight {
		return columns, rows
	}
	times := min(columns/fewestColumns, rows/fewestRows, int(mostWidth/f.width), int(mostHeight/f.height))
	if times < 2 {
		return columns, rows // they are large already, or the screen is small
	}
	data := make([]byte, mostGlyphs*mostHeight*mostWidth/8)
	f = font{op: fontGet, width: mostWidth, height: mostHeight, count: mostGlyphs, data: unsafe.Pointer(&data[0])}
	if !l.control(&f) || f.count > mostGlyphs {
		return columns, rows
	}
	big := enlarge(data, int(f.width), int(f.height), int(f.count), times)
	f.op, f.data = fontSet, unsafe.Pointer(&big[0])
	f.width, f.height = f.width*uint32(times), f.height*uint32(times)
	l.control(&f)
	return l.size()
}

// small gives the letters that the kernel begins with.
func (l letters) small() { l.control(&font{op: fontDefault}) }

// control reports whether the kernel has done it.
func (l letters) control(f *font) bool {
	return control(l.tty, func(fd int) error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fontOperation, uintptr(unsafe.Pointer(f)))
		if errno != 0 {
			return errno
		}
		return nil
	}) == nil
}

func (l letters) size() (columns, rows int) {
	columns, rows = 80, 25
	_ = control(l.tty, func(fd int) error { // these are the smallest
		size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil && size.Col > 0 && size.Row > 0 {
			columns, rows = int(size.Col), int(size.Row)
		}
		return err
	})
	return columns, rows
}

// control calls do with the descriptor, and leaves it with Go's poller.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	if err := raw.Control(func(fd uintptr) { fault = do(int(fd)) }); err != nil {
		return err
	}
	return fault
}

// enlarge repeats each pixel times x times. A row of a glyph has whole bytes, the leftmost pixel in the highest bit. In
// data, a glyph has mostHeight rows; in the result as many as it is high.
func enlarge(data []byte, width, height, count, times int) []byte {
	from, to := (width+7)/8, (width*times+7)/8
	out := make([]byte, count*height*times*to)
	for glyph := range count {
		for y := range height {
			row := data[(glyph*mostHeight+y)*from:][:from]
			first := (glyph*height + y) * times * to
			for x := range width * times {
				if at := x / times; row[at/8]>>(7-at%8)&1 != 0 {
					out[first+x/8] |= 0x80 >> (x % 8)
				}
			}
			for i := 1; i < times; i++ {
				copy(out[first+i*to:][:to], out[first:][:to])
			}
		}
	}
	return out
}
