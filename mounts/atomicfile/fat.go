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

// ErrKept stops a write that would do harm on FAT: a power cut between two sectors of a folder can leave a file under its old
// name and its new one at once, and to remove either frees the blocks of both. The next boot repairs that (mounts/fsck).
var ErrKept = errors.New("what a power cut left is in the way")

// checkLeftOver fails if path was left by a power cut on a FAT file system where two files share their blocks. Which two does not
// matter: the one that shares with the left-over may have got another name since.
//
// The disk is asked, because the kernel has no answer: FIBMAP goes by a file's length, and where an empty left-over leads it does not tell.
func checkLeftOver(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close() // opened for reading: nothing to lose
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(folder.Fd()), &system); err != nil || system.Type != unix.MSDOS_SUPER_MAGIC {
		return err
	}
	if err := unix.Syncfs(int(folder.Fd())); err != nil { // vfat keeps where files begin in their inodes
		return err
	}
	disk, err := openDisk(folder)
	if err != nil {
		return err
	}
	defer disk.Close() // opened for reading: nothing to lose
	pair, found, err := fat.Shared(disk)
	if found {
		err = errors.New(pair.String())
	}
	return err
}

// openDisk opens the block device that a folder lies on.
func openDisk(folder *os.File) (*os.File, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(folder.Fd()), &stat); err != nil {
		return nil, err
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	if err != nil {
		return nil, err
	}
	return os.Open("/dev/" + strings.ReplaceAll(filepath.Base(device), "!", "/")) // sysfs writes cciss/c0d0 so
}
