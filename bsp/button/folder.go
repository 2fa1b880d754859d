package button

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
)

// inputFolder is the directory of the nodes of input devices, below /dev.
const inputFolder = "input"

// A folder reports that something may have changed in the directory of input devices. Its user finds out what.
type folder struct {
	input string
	log   *slog.Logger
	fd    int // of file; only the goroutine that closes file uses it
	file  *os.File
	polls bool // inotify is used up: nil is sent regularly
}

// watch begins to watch dev: devtmpfs creates the directory of input devices with the first device and removes it with
// the last. Other nodes appear rarely in dev, and looking into the directory costs little.
func watch(dev string, log *slog.Logger) (*folder, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if dirwatch.Scarce(err) {
		f := &folder{input: filepath.Join(dev, inputFolder), log: log}
		f.poll(err)
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("watch input devices: %w", err)
	}
	f := &folder{input: filepath.Join(dev, inputFolder), log: log, fd: fd, file: os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, dev, unix.IN_CREATE|unix.IN_ONLYDIR); dirwatch.Scarce(err) {
		f.poll(err)
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dev, err), f.close())
	}
	return f, nil
}

// aim watches the directory if it exists now. Whoever looks into it afterwards misses nothing.
func (f *folder) aim() error {
	if f.polls {
		return nil
	}
	_, err := unix.InotifyAddWatch(f.fd, f.input, unix.IN_CREATE|unix.IN_ONLYDIR)
	if dirwatch.Scarce(err) {
		f.log.Warn("inotify is used up, a new power button may not be found", "path", f.input, "error", err)
		return nil
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("watch %s: %w", f.input, err)
	}
	return nil
}

// follow sends nil at each change until ctx ends, or the error that ended it.
func (f *folder) follow(ctx context.Context, changed chan<- error) {
	buffer := make([]byte, 4096) // holds the longest event
	for {
		var err error
		if f.polls {
			err = pause(ctx)
		} else {
			_, err = f.file.Read(buffer)
		}
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

func pause(ctx context.Context) error {
	timer := time.NewTimer(dirwatch.Every)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// poll makes follow report regularly that something may have changed. A device that was started without inotify keeps
// doing this: buttons appear and disappear when somebody plugs them.
func (f *folder) poll(err error) {
	f.polls = true
	f.log.Warn("inotify is used up, looking for power buttons every second", "path", f.input, "error", err)
}

func (f *folder) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
