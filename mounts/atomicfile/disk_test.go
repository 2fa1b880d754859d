package atomicfile_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
	"resinos/mounts/testenv"
)

// TestCreateHasReachedTheDisk: the file written aside has its blocks on the disk before it may be renamed. ext4 chooses
// blocks only when it writes them, half a minute later, and tells so of a file until then.
func TestCreateHasReachedTheDisk(t *testing.T) {
	testenv.NeedRoot(t, "a file system of its own")
	dir, file := t.TempDir(), testenv.Disk(t, 32)
	testenv.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", file)
	testenv.Run(t, "mount", "-o", "loop", file, dir)
	t.Cleanup(func() { testenv.Run(t, "umount", dir) })
	content := make([]byte, 64<<10)
	content[0] = 1
	waits := filepath.Join(dir, "waits")
	if err := os.WriteFile(waits, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if !onlyInMemory(t, waits) {
		t.Log("this kernel wrote a file out within a moment: the test sees nothing this time")
	}
	path := filepath.Join(dir, "config.json.new")
	if err := (atomicfile.Disk{}).Create(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if onlyInMemory(t, path) {
		t.Error("Create returns before the content is on the disk")
	}
}

// onlyInMemory reports whether a part of a file has no place on the disk yet (Linux,
// Documentation/filesystems/fiemap.rst).
func onlyInMemory(t *testing.T, path string) bool {
	t.Helper()
	const (
		fiemap   = 0xc020660b // _IOWR('f', 11, struct fiemap)
		most     = 32         // extents
		head     = 32         // bytes before them
		each     = 56         // bytes of one, its flags at 40
		delalloc = 4
	)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	b := make([]byte, head+most*each)
	binary.NativeEndian.PutUint64(b[8:], ^uint64(0))
	binary.NativeEndian.PutUint32(b[24:], most)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		t.Fatal(errno)
	}
	found := binary.NativeEndian.Uint32(b[20:])
	if found == 0 {
		t.Fatalf("%s has no extents", path)
	}
	for n := range found {
		if binary.NativeEndian.Uint32(b[head+n*each+40:])&delalloc != 0 {
			return true
		}
	}
	return false
}
