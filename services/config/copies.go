package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
	"resinos/services/osrelease"
	"resinos/services/settings"
)

// Path is the path of the file on the device.
const Path = "/mnt/boot/config.json"

// Sibling ends the name of the last good copy beside the file:
//
//	resinos config 1 SHA-256 of the rest in hex, a newline
//	the file, byte by byte
//
// The sum distinguishes a complete copy from one that a power cut has torn.
const Sibling = ".good"

const siblingHead = "resinos config 1 "

// Loaded is the configuration of a device as it was read.
type Loaded struct {
	Document Document
	Source   settings.From // File, LastGood, or Default: then the document is empty
	Fault    error         // why it is not File; nil on a device that has neither file nor copy
	Missing  bool          // there is no file
	Variant  string        // of the image: it decides what nobody has said of the development mode
	// the last good copy, for keys of the file that cannot be used; empty if it is not needed or missing
	Good Document
}

// Load reads the newest copy that parses: the file, else its last good copy, else nothing. It cannot fail.
func Load(path string) Loaded {
	l := load(path)
	l.Variant = osrelease.Variant()
	return l
}

func load(path string) Loaded {
	d, err := readDocument(path)
	if err == nil {
		l := Loaded{Document: d, Source: settings.File}
		if len(Effective(d, settings.File).Faults) > 0 {
			l.Good, _ = readSibling(path) // without one, defaults are in force
		}
		return l
	}
	missing := errors.Is(err, fs.ErrNotExist)
	good, second := readSibling(path)
	switch {
	case second == nil:
		return Loaded{Document: good, Source: settings.LastGood, Fault: fmt.Errorf("%w; the last good copy is in force",
			err), Missing: missing}
	case missing && errors.Is(second, fs.ErrNotExist):
		return Loaded{Document: Empty(), Source: settings.Default, Missing: true}
	case errors.Is(second, fs.ErrNotExist):
		second = errors.New("there is no last good copy")
	}
	return Loaded{Document: Empty(), Source: settings.Default, Fault: fmt.Errorf("%w; %w; defaults are in force", err,
		second), Missing: missing}
}

func readDocument(path string) (Document, error) {
	text, err := readBounded(path, maxSize)
	if err != nil {
		return Document{}, fmt.Errorf("read config: %w", err)
	}
	d, err := Parse(text)
	if err != nil {
		return Document{}, fmt.Errorf("read config %s: %w", path, err)
	}
	return d, nil
}

// readBounded reads at most limit bytes, and never waits: somebody may have put a pipe there.
func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", path)
	}
	return io.ReadAll(io.LimitReader(f, int64(limit)+1))
}

// Good returns the last good copy. The error wraps fs.ErrNotExist if there is none.
func Good(path string) (Document, error) { return readSibling(path) }

func readSibling(path string) (Document, error) {
	text, err := readBounded(path+Sibling, maxSize+len(siblingHead)+2*sha256.Size+1)
	if err != nil {
		return Document{}, fmt.Errorf("read last good copy: %w", err)
	}
	body, err := decodeSibling(text)
	if err != nil {
		return Document{}, fmt.Errorf("read last good copy %s: %w", path+Sibling, err)
	}
	d, err := Parse(body)
	if err != nil {
		return Document{}, fmt.Errorf("read last good copy %s: %w", path+Sibling, err)
	}
	return d, nil
}

func encodeSibling(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(siblingHead+hex.EncodeToString(sum[:])+"\n"), body...)
}

func decodeSibling(text []byte) ([]byte, error) {
	_, body, whole := bytes.Cut(text, []byte("\n"))
	if !whole || !bytes.Equal(text, encodeSibling(body)) {
		return nil, errors.New("its sum is wrong: it is not whole")
	}
	return body, nil
}

// Store changes the file. The zero System is the disk.
type Store struct {
	Path   string
	System atomicfile.System
}

func (s Store) write(path string, content []byte) error {
	system := s.System
	if system == nil {
		system = atomicfile.Disk{}
	}
	return atomicfile.WriteTo(system, path, content, 0o600)
}

// ErrUnusable reports a file that cannot be parsed, and is therefore not changed.
var ErrUnusable = errors.New("it is not overwritten")

// Choice is the wanted content of the file and its last good copy.
type Choice struct{ File, Copy Document }

// Settle calls choose with the configuration in force. choose decides on the content of the file and its copy. Settle
// writes whichever differs, the copy first, so that at each moment one of them is complete; without a choice it writes
// nothing. It returns what is in force afterwards: what choose was given or has chosen, not what a second look at the
// file would show. Somebody may have written the file meanwhile, and what is not in the copy must not be applied. When
// the error is nil, everything has reached the disk.
func (s Store) Settle(choose func(Loaded) (*Choice, error)) (Loaded, error) {
	now := Load(s.Path)
	err := s.locked(func() error {
		now = Load(s.Path)
		c, err := choose(now)
		if err != nil || c == nil {
			return err
		}
		if err := s.put(now, *c); err != nil {
			return err
		}
		now = Loaded{Document: c.File, Source: settings.File, Variant: now.Variant, Good: c.Copy}
		return nil
	})
	return now, err
}

func (s Store) put(now Loaded, c Choice) error {
	if len(c.File.Bytes()) > maxSize {
		return fmt.Errorf("write %s: it would be longer than %d bytes", s.Path, maxSize)
	}
	if err := s.keep(c.Copy); err != nil {
		return err
	}
	if now.Source == settings.File && bytes.Equal(c.File.Bytes(), now.Document.Bytes()) {
		return nil
	}
	return s.write(s.Path, c.File.Bytes())
}

func (s Store) keep(d Document) error {
	if good, err := readSibling(s.Path); err == nil && bytes.Equal(good.Bytes(), d.Bytes()) {
		return nil
	}
	return s.write(s.Path+Sibling, encodeSibling(d.Bytes()))
}

// Update changes the file by change, which is called with the document in force. File and copy then have the same
// content, except values that cannot be used. If there is a file that cannot be parsed, Update changes nothing and
// fails (ErrUnusable).
func (s Store) Update(change func(Document) (Document, error)) error {
	_, err := s.Settle(func(now Loaded) (*Choice, error) {
		if now.Source != settings.File && !now.Missing {
			return nil, fmt.Errorf("%w: %w", now.Fault, ErrUnusable)
		}
		next, err := change(now.Document)
		return &Choice{File: next, Copy: Loaded{Document: next, Good: now.Good}.Usable()}, err
	})
	return err
}

// Lasts reports whether what is written outlives a power-off. It does not if a tmpfs stands in for a boot partition
// that cannot be attached.
func (s Store) Lasts() bool {
	var system unix.Statfs_t
	err := unix.Statfs(filepath.Dir(s.Path), &system)
	return err == nil && system.Type != unix.TMPFS_MAGIC && system.Flags&unix.ST_RDONLY == 0
}

// Bad ends the name to which Restore renames a file that cannot be parsed.
const Bad = ".bad"

// Restore restores the last good copy if the file is missing or cannot be parsed; such a file is renamed. It fails if
// the file is good, or if there is no copy.
func (s Store) Restore() error {
	return s.locked(func() error {
		now := Load(s.Path)
		switch {
		case now.Source == settings.File:
			return fmt.Errorf("restore %s: it is good", s.Path)
		case now.Source != settings.LastGood:
			return fmt.Errorf("restore %s: there is no last good copy", s.Path)
		}
		if !now.Missing {
			if err := os.Rename(s.Path, s.Path+Bad); err != nil {
				return fmt.Errorf("put %s aside: %w", s.Path, err)
			}
		}
		return s.write(s.Path, now.Document.Bytes())
	})
}

// lockPatience is how long a writer waits for another one; each needs a few fsyncs.
const lockPatience = 10 * time.Second

// locked runs do while no other process of ours writes the file. The lock is on the directory and ends with its
// process.
func (s Store) locked(do func() error) error {
	dir, err := os.Open(filepath.Dir(s.Path))
	if err != nil {
		return fmt.Errorf("lock %s: %w", s.Path, err)
	}
	defer dir.Close() // and with it the lock
	for end := time.Now().Add(lockPatience); ; {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return do()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return fmt.Errorf("lock %s: %w", s.Path, err)
		}
		<-time.After(20 * time.Millisecond) // sleep: a file lock cannot be waited for with a limit
	}
}
