package fsck

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlSpan calls BLKZEROOUT with offset and length in bytes. It fails if the file is not a block device.
func ioctlSpan(fd uintptr, span *[2]uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKZEROOUT, uintptr(unsafe.Pointer(span))); errno != 0 {
		return errno
	}
	return nil
}
