package blink

import (
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// KDGETMODE, and its answer for a terminal whose screen belongs to a picture, as that of the splash (console ioctls,
// linux/kd.h). The kernel then draws nothing that is written to the terminal.
const (
	getMode  = 0x4b3b
	graphics = 1
)

// pictured reports whether the screen of a terminal belongs to a picture.
func pictured(tty string) bool {
	f, err := os.OpenFile(tty, os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close() // nothing is written
	mode, err := unix.IoctlGetInt(int(f.Fd()), getMode)
	return err == nil && mode == graphics
}

// pixels returns how the picture of a framebuffer is shown in negative, and as before.
func pixels(path string) (set func(bool) error, restore func() error) {
	negative := false
	set = func(on bool) error {
		if on == negative {
			return nil
		}
		negative = on
		return invert(path)
	}
	return set, func() error { return set(false) }
}

// framebuffer is the path of the one that belongs to a terminal.
func framebuffer(tty string) string { return filepath.Join(filepath.Dir(tty), "fb0") }

// invert makes the negative of what a framebuffer shows; a second call brings the picture back, and leaves what an app
// has drawn meanwhile.
func invert(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // each write has told
	part := make([]byte, 1<<16)
	for at := int64(0); ; {
		n, end := f.ReadAt(part, at)
		for i := range part[:n] {
			part[i] ^= 0xff
		}
		if _, err := f.WriteAt(part[:n], at); err != nil {
			return err
		}
		at += int64(n)
		if end == io.EOF {
			return nil
		}
		if end != nil {
			return end
		}
	}
}
