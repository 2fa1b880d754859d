package button

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inputFolder is where nodes of input devices lie, below /dev.
const inputFolder = "input"

// A folder tells that something may have changed in the folder of input devices; what, its user looks up.
type folder struct {
	input string
	fd    int // of file; only the goroutine that closes file uses it
	file  *os.File
}

// watch begins to watch dev: devtmpfs makes the folder of input devices with the first of them and removes it with the
// last. Nodes that come elsewhere in dev are few, and a look into the folder costs little.
func watch(dev string) (*folder, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch input devices: %w", err)
	}
	f := &folder{input: filepath.Join(dev, inputFolder), fd: fd, file: os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, dev, unix.IN_CREATE|unix.IN_ONLYDIR); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dev, err), f.close())
	}
	return f, nil
}

// aim watches the folder that is there now, if there is one; who looks into it afterwards misses nothing.
func (f *folder) aim() error {
	_, err := unix.InotifyAddWatch(f.fd, f.input, unix.IN_CREATE|unix.IN_ONLYDIR)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("watch %s: %w", f.input, err)
	}
	return nil
}

// follow sends nil at each change until ctx ends, or the error that ended it.
func (f *folder) follow(ctx context.Context, changed chan<- error) {
	buffer := make([]byte, 4096) // holds the longest event
	for {
		_, err := f.file.Read(buffer)
		select {
		case changed <- err:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (f *folder) close() error { return f.file.Close() }
