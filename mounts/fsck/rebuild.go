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

// Template is the empty file system for a partition that can be purged ("state", "data"), which the image builder puts into the root: the
// device needs no mke2fs.
func Template(name string) string { return "/usr/lib/resinos/" + name + ".ext4" }

// chunk is what is read and written at once, and what counts as empty when it holds only zeroes.
const chunk = 64 << 10

// mostAside bounds how many states are kept aside: a partition that dies again and again must not fill the other.
const mostAside = 3

// SetAside copies a partition that cannot be repaired into a new file NAME-N.img in dir, with holes where it holds zeroes. It
// returns the file's name. When the copy is not whole, because there is no room or a sector cannot be read, what could be had
// stays, and the error says so.
func SetAside(node, dir, name string) (file string, err error) {
	from, err := os.Open(node)
	if err != nil {
		return "", fmt.Errorf("set aside %s: %w", node, err)
	}
	defer from.Close() // only read
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
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s-%d.img", name, n+1)), os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s holds %d of them already; remove one", dir, mostAside)
}

// copyHoles goes on behind a chunk that cannot be read, but not behind one that cannot be written.
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

// Rebuild writes the empty file system of the template over a partition. Its first chunk, which holds the superblock, is wiped first and
// written last: until the end there is no file system, and the next boot begins anew.
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
	defer from.Close() // only read
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

// zero has the device, which may be quick at it, fill the place of the template with zeroes.
func zero(to target, size int64) bool {
	span := [2]uint64{0, uint64(size)}
	return ioctlSpan(to.Fd(), &span) == nil
}
