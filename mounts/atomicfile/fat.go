package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errShared stops a write that would do harm on FAT: a power cut between two sectors of a folder can leave a file under its old
// name and its new one at once, and to remove either frees the blocks of both.
var errShared = errors.New("the file left by a power cut shares its blocks; the file system must be checked first (fsck.vfat -a)")

// fibmap is the ioctl FIBMAP of linux/fs.h: the block on the disk that holds the n-th of a file.
const fibmap = 1

// sharesBlocks reports whether two files of a FAT file system begin in the same block, so that they are one file on the disk.
func sharesBlocks(a, b string) (bool, error) {
	first, err := firstBlock(a)
	if err != nil || first == 0 {
		return false, err
	}
	second, err := firstBlock(b)
	return first == second, err
}

// firstBlock is where a regular file on FAT begins on its disk; 0 for an empty file, no file, and every other file system.
func firstBlock(path string) (uint32, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close() // opened for reading: nothing to lose
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &system); err != nil || system.Type != unix.MSDOS_SUPER_MAGIC {
		return 0, err
	}
	block := uint32(0)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fibmap, uintptr(unsafe.Pointer(&block))); errno != 0 {
		return 0, os.NewSyscallError("fibmap", errno)
	}
	return block, nil
}
