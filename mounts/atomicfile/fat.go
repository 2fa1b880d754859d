package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/fat"
)

// ErrKept reports a write that would do damage on FAT. A power cut between two sectors of a directory can leave a file
// under its old and its new name at once, and removing either name frees the blocks of both. The next boot repairs that
// (mounts/fsck).
var ErrKept = errors.New("a file that a power cut left shares blocks with another; the next boot repairs that")

// checkLeftOver fails if a power cut left path on a FAT file system in which two files share blocks. It does not matter
// which two: the one that shares blocks with the left-over may have been renamed since.
//
// The directories are read from the disk, because the kernel does not tell: FIBMAP uses the length of a file and shows
// no blocks of an empty left-over.
func checkLeftOver(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // nothing was written
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &system); err != nil || system.Type != unix.MSDOS_SUPER_MAGIC {
		return err
	}
	if err := unix.Syncfs(int(dir.Fd())); err != nil { // vfat keeps the first block of a file in its inode
		return err
	}
	disk, err := openDisk(dir)
	if err != nil {
		return err
	}
	defer disk.Close() // nothing was written
	pair, found, err := fat.Shared(disk)
	if found {
		err = errors.New(pair.String())
	}
	return err
}

// openDisk opens the block device of the file system that contains a directory.
func openDisk(dir *os.File) (*os.File, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &stat); err != nil {
		return nil, err
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	if err != nil {
		return nil, err
	}
	// sysfs writes cciss/c0d0 as cciss!c0d0
	return os.Open("/dev/" + strings.ReplaceAll(filepath.Base(device), "!", "/"))
}
