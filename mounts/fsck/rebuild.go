package fsck

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Template returns the path of the empty file system for a partition that can be purged ("state", "data"). The image
// builder puts it into the root, so the device needs no mke2fs.
func Template(name string) string { return "/usr/lib/resinos/" + name + ".ext4" }

// chunk is the size of one read or write; a chunk of zeros counts as empty.
const chunk = 64 << 10

// mostAside limits how many copies of state are kept: a partition that breaks again and again must not fill the other
// one.
const mostAside = 3

// SetAside copies a partition that cannot be repaired to a new file NAME-N.img in dir, with holes instead of zeros, and
// returns the name of the file. If the copy is incomplete, because the disk is full or a sector cannot be read, what
// could be copied stays, and the error reports that.
func SetAside(node, dir, name string) (file string, err error) {
	from, err := os.Open(node)
	if err != nil {
		return "", fmt.Errorf("set aside %s: %w", node, err)
	}
	defer from.Close() // nothing was written
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("set aside %s: %w", node, err)
	}
	to, err := newFile(dir, name)
	if err != nil {
		return "", fmt.Errorf("set aside %s: %w", node, err)
	}
	err = copyHoles(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		return to.Name(), fmt.Errorf("set aside %s in %s: %w", node, to.Name(), err)
	}
	return to.Name(), nil
}

func newFile(dir, name string) (*os.File, error) {
	for n := range mostAside {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s-%d.img", name, n+1)),
			os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s holds %d of them already; remove one", dir, mostAside)
}

// copyHoles skips a chunk that cannot be read. It stops at one that cannot be written.
func copyHoles(to *os.File, from io.ReadSeeker) error {
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var fault error
	b := make([]byte, chunk)
	for at := int64(0); at < size; at += chunk {
		part := b[:min(chunk, size-at)]
		if _, err := from.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(from, part); err != nil {
			fault = fmt.Errorf("read at %d: %w", at, err)
			continue
		}
		if empty(part) {
			continue
		}
		if _, err := to.WriteAt(part, at); err != nil {
			return errors.Join(err, fault)
		}
	}
	return errors.Join(to.Truncate(size), fault)
}

func empty(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// Rebuild writes the empty file system of the template to a partition. The first chunk, which contains the superblock,
// is cleared first and written last: until then there is no file system, and after a power cut the next boot begins
// again.
func Rebuild(node, template string) error {
	if err := rebuild(node, template); err != nil {
		return fmt.Errorf("rebuild %s: %w", node, err)
	}
	return nil
}

func rebuild(node, template string) error {
	from, err := os.Open(template)
	if err != nil {
		return err
	}
	defer from.Close() // nothing was written
	to, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(to, from), to.Close())
}

// target is the partition: a block device, or a file in tests.
type target interface {
	io.WriterAt
	io.Seeker
	Sync() error
	Fd() uintptr
}

func fill(to target, from *os.File) error {
	room, err := to.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > room || size < chunk {
		return fmt.Errorf("the template has %d bytes, the partition %d", size, room)
	}
	first := make([]byte, chunk)
	if _, err := from.ReadAt(first, 0); err != nil {
		return err
	}
	if _, err := to.WriteAt(make([]byte, chunk), 0); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	zeroed := zero(to, size)
	b := make([]byte, chunk)
	for at := int64(chunk); at < size; at += chunk {
		part := b[:min(chunk, size-at)]
		if _, err := from.ReadAt(part, at); err != nil {
			return err
		}
		if zeroed && empty(part) {
			continue
		}
		if _, err := to.WriteAt(part, at); err != nil {
			return err
		}
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if _, err := to.WriteAt(first, 0); err != nil {
		return err
	}
	return to.Sync()
}

// zero makes the device, which may be fast at it, write zeros in the length of the template.
func zero(to target, size int64) bool {
	span := [2]uint64{0, uint64(size)}
	return ioctlSpan(to.Fd(), &span) == nil
}
