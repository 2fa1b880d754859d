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

// inputDirectory is the directory of the nodes of input devices, below /dev.
const inputDirectory = "input"

// A directory reports that something may have changed in the directory of input devices. Its user finds out what.
type directory struct {
	input string
	log   *slog.Logger
	fd    dirwatch.Inotify // of file; only the goroutine that closes file uses it
	file  *os.File
	polls bool // inotify is used up: nil is sent regularly
}

// watch begins to watch dev: devtmpfs creates the directory of input devices with the first device and removes it with
// the last. Other nodes appear rarely in dev, and looking into the directory costs little.
func watch(dev string, log *slog.Logger) (*directory, error) {
	fd, err := dirwatch.NewInotify()
	if dirwatch.Scarce(err) {
		d := &directory{input: filepath.Join(dev, inputDirectory), log: log}
		d.poll(err)
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("watch input devices: %w", err)
	}
	d := &directory{input: filepath.Join(dev, inputDirectory), log: log, fd: fd,
		file: os.NewFile(uintptr(fd), "inotify")}
	if _, err := fd.Add(dev, unix.IN_CREATE|unix.IN_ONLYDIR); dirwatch.Scarce(err) {
		d.poll(err)
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dev, err), d.close())
	}
	return d, nil
}

// aim watches the directory if it exists now. Whoever looks into it afterwards misses nothing.
func (d *directory) aim() error {
	if d.polls {
		return nil
	}
	_, err := d.fd.Add(d.input, unix.IN_CREATE|unix.IN_ONLYDIR)
	if dirwatch.Scarce(err) {
		d.log.Warn("inotify is used up, a new power button may not be found", "path", d.input, "error", err)
		return nil
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("watch %s: %w", d.input, err)
	}
	return nil
}

// follow sends nil at each change until ctx ends, or the error that ended it.
func (d *directory) follow(ctx context.Context, changed chan<- error) {
	buffer := make([]byte, 4096) // holds the longest event
	for {
		var err error
		if d.polls {
			err = pause(ctx)
		} else {
			_, err = d.file.Read(buffer)
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
func (d *directory) poll(err error) {
	d.polls = true
	d.log.Warn("inotify is used up, looking for power buttons every second", "path", d.input, "error", err)
}

func (d *directory) close() error {
	if d.file == nil {
		return nil
	}
	return d.file.Close()
}
