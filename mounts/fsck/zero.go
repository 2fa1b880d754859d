package fsck

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlSpan is BLKZEROOUT: offset and length in bytes. It fails for what is no block device.
func ioctlSpan(fd uintptr, span *[2]uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKZEROOUT, uintptr(unsafe.Pointer(span))); errno != 0 {
		return errno
	}
	return nil
}
