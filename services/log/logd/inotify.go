package logd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/log/pipe"
)

// dirEvent is one event of an inotify watch on a directory.
type dirEvent struct {
	mask uint32
	name string
}

// parseInotify decodes what read(2) returns for an inotify descriptor: struct inotify_event, then the name, padded with
// zeros. An incomplete event ends the list.
func parseInotify(b []byte) []dirEvent {
	var list []dirEvent
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		size := binary.NativeEndian.Uint32(b[12:])
		if b = b[unix.SizeofInotifyEvent:]; uint64(size) > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		list = append(list, dirEvent{mask: mask, name: string(name)})
		b = b[size:]
	}
	return list
}

// watchPipes has inotify report changes of the pipes' directory. The error is dirwatch.Scarce when all watches are used
// up, which containers can cause: their root counts as the device's root.
func (c *collector) watchPipes() error {
	fd, err := watchDir(c.dir)
	if err != nil {
		return err
	}
	if err := c.poll.watch(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	c.inotify = fd
	return nil
}

// lookAgain sets the time of the next look into the directory.
func (c *collector) lookAgain() {
	_, now := c.clock()
	c.look = now + dirwatch.Every
}

// lookForPipes looks into the directory while inotify is used up, and tries inotify again. The first lines of a new
// container wait in its pipe meanwhile.
func (c *collector) lookForPipes() {
	if err := c.watchPipes(); err != nil {
		c.lookAgain()
	} else {
		c.look = 0
		c.log.Info("inotify is available again", "path", c.dir)
	}
	if err := c.rescan(); err != nil {
		c.log.Error("log pipes not found", "error", err)
	}
}

// directory handles the changes of the pipes' directory.
func (c *collector) dirTurn() {
	for {
		n, err := unix.Read(c.inotify, c.buf)
		if err != nil || n == 0 {
			return // EAGAIN: that was all
		}
		for _, ev := range parseInotify(c.buf[:n]) {
			switch {
			case ev.mask&unix.IN_Q_OVERFLOW != 0:
				if err := c.rescan(); err != nil {
					c.log.Error("log pipes not found", "error", err)
				}
			case ev.mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
				if s, err := pipe.ParseName(ev.name); err == nil && c.byName[s] != nil {
					c.leave(c.byName[s])
				}
			default:
				c.open(ev.name)
			}
		}
	}
}

// rescan opens new pipes in the directory and closes those that are gone.
func (c *collector) rescan() error {
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("open log pipes: %w", err)
	}
	for _, p := range c.byName {
		if p.gone(filepath.Join(c.dir, p.Spool.Source.String())) {
			c.leave(p)
		}
	}
	for _, file := range files {
		c.open(file.Name())
	}
	return nil
}

// gone reports whether the pipe at path was removed, or replaced by another one without an event.
func (p *input) gone(path string) bool {
	var there, ours unix.Stat_t
	if err := unix.Lstat(path, &there); err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return p.fd >= 0 && unix.Fstat(p.fd, &ours) == nil && (there.Ino != ours.Ino || there.Dev != ours.Dev)
}

// open begins to read a new pipe.
func (c *collector) open(name string) {
	s, err := pipe.ParseName(name)
	if err != nil {
		c.log.Warn("log pipe ignored", "error", err)
		return
	}
	if c.byName[s] != nil {
		return
	}
	p, err := c.adopt(s)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // deleted since
			c.log.Warn("log pipe ignored", "error", err)
		}
		return
	}
	c.turn(p, false) // first what an earlier life has left in the spool
}
