package logd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/log/pipe"
)

// watchPipes has inotify report changes of the pipes' directory. The error is dirwatch.Scarce when all watches are used
// up, which containers can cause: their root counts as the device's root.
func (c *collector) watchPipes() error {
	i, err := dirwatch.NewInotify()
	if err != nil {
		return fmt.Errorf("watch log pipes: %w", err)
	}
	const mask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR
	if _, err = i.Add(c.dir, mask); err != nil {
		err = fmt.Errorf("watch log pipes in %s: %w", c.dir, err)
	} else {
		err = c.poll.watch(int(i), true)
	}
	if err != nil {
		i.Close()
		return err
	}
	c.inotify = i
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

// dirTurn handles the changes of the pipes' directory.
func (c *collector) dirTurn() {
	for events := c.inotify.Read(c.buf); len(events) > 0; events = c.inotify.Read(c.buf) {
		for _, ev := range events {
			c.dirEvent(ev)
		}
	}
}

func (c *collector) dirEvent(ev dirwatch.Event) {
	switch {
	case ev.Mask&unix.IN_Q_OVERFLOW != 0:
		if err := c.rescan(); err != nil {
			c.log.Error("log pipes not found", "error", err)
		}
	case ev.Mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
		if s, err := pipe.ParseName(ev.Name); err == nil && c.byName[s] != nil {
			c.leave(c.byName[s])
		}
	default:
		c.open(ev.Name)
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
