package attach

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Loop attaches file to a free loop device, read-only, and returns the node of the device and an open handle. The
// device frees itself when its last user closes it (LO_FLAGS_AUTOCLEAR), so the caller must mount it before it closes
// the handle. Direct I/O is used if the file system of the file allows it: then the pages of the root are cached once,
// not twice.
func Loop(file string) (node string, handle *os.File, err error) {
	backing, err := os.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer control.Close()
	// Another process may take the free device before we attach the file to it.
	for range 16 {
		node, handle, err = loopOnce(int(control.Fd()), int(backing.Fd()), file)
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("attach loop device to %s: %w", file, err)
	}
	return node, handle, nil
}

func loopOnce(control, backing int, file string) (string, *os.File, error) {
	number, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", nil, err
	}
	node := fmt.Sprintf("/dev/loop%d", number)
	device, err := os.OpenFile(node, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	config := unix.LoopConfig{Fd: uint32(backing)}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file)
	err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	if errors.Is(err, unix.EINVAL) {
		config.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	}
	if err != nil {
		return "", nil, errors.Join(err, device.Close())
	}
	return node, device, nil
}
