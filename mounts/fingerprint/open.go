package fingerprint

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open returns the file system that is attached at target without the mounts above it: files that persistent binds
// cover are seen as the image has them. It needs CAP_SYS_ADMIN. The caller calls close when done.
//
// open_tree(2) with OPEN_TREE_CLONE and without AT_RECURSIVE copies the one mount. Nobody else sees the copy, and it
// ends with its descriptor.
func Open(target string) (root fs.FS, close func() error, err error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s without the mounts above it: %w", target, err)
	}
	f := os.NewFile(uintptr(fd), target)
	return os.DirFS(fmt.Sprintf("/proc/self/fd/%d", fd)), f.Close, nil
}
