package button

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inputMask is struct input_mask of linux/input.h.
type inputMask struct {
	kind  uint32
	size  uint32
	codes uint64 // address of a bitmap of size bytes, whole longs
}

const setMask = 0x40104593 // EVIOCSMASK, _IOW('E', 0x93, struct input_mask)

// onlyPower makes the kernel drop all events of this device except those of the power button. A keyboard with such a
// key then wakes nobody while a person types, and what is typed is never read.
func onlyPower(device *os.File) error {
	raw, err := device.SyscallConn()
	if err != nil {
		return err
	}
	rawErr := raw.Control(func(fd uintptr) {
		// The mask of the type "sync" contains types, and sync itself is never masked.
		err = errors.Join(mask(fd, typeSync, typeKey), mask(fd, typeKey, keyPower))
	})
	return errors.Join(rawErr, err)
}

// mask lets only one code of a type through.
func mask(fd uintptr, kind uint32, code int) error {
	var codes [16]byte // bits 0 to 127; the kernel adds zeros
	codes[code/8] = 1 << (code % 8)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&codes)
	m := inputMask{kind: kind, size: uint32(len(codes)), codes: uint64(uintptr(unsafe.Pointer(&codes)))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, setMask, uintptr(unsafe.Pointer(&m)))
	if errno != 0 {
		return os.NewSyscallError("ioctl EVIOCSMASK", errno)
	}
	return nil
}
