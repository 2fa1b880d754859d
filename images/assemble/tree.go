// Package assemble turns trees of files into file systems, and file systems into an image.
//
// It owns FAT, ext4, squashfs, cpio and the partition table. It writes each without root rights (no mount, no loop
// device), and the same input gives the same bytes on every host, for every user and umask, and at any time. It never
// decides what is on the disk (images/layout, images/rootfs) and fetches nothing. Read first: Tree, then Ext4.
package assemble

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"resinos/mounts/disk"
)

// Entry is one file, directory, symbolic link or device node of a Tree. All belong to root.
type Entry struct {
	Path    string      // below the root of the tree, without a leading slash
	Mode    fs.FileMode // type and permission bits
	Source  string      // host file with the content; or else
	Content []byte      // the content itself
	Target  string      // target of a symbolic link
	Device  Device      // numbers of a device node
}

// Device is the pair of numbers of a device node.
type Device struct{ Major, Minor uint32 }

// Tree is a set of entries, each path once. The zero Tree is empty and ready for use.
type Tree struct {
	entries map[string]Entry
}

// Add adds e to the tree, with the missing directories above it (0755). It fails if the path is not clean, if it exists
// as something other than a directory, or if its parent is not a directory.
func (t *Tree) Add(e Entry) error {
	if e.Path == "" || strings.HasPrefix(e.Path, "/") || path.Clean(e.Path) != e.Path ||
		strings.HasPrefix(e.Path, "..") {
		return fmt.Errorf("add %q to tree: not a clean path below the root", e.Path)
	}
	if strings.ContainsAny(e.Path+e.Target, "\"\n\r\x00") {
		return fmt.Errorf("add %q to tree: quotes, line ends and NUL cannot be written by the file system tools",
			e.Path)
	}
	if old, taken := t.entries[e.Path]; taken && (!old.Mode.IsDir() || !e.Mode.IsDir()) {
		return fmt.Errorf("add %s to tree: it is there already", e.Path)
	}
	if err := t.addParents(e.Path); err != nil {
		return err
	}
	if t.entries == nil {
		t.entries = make(map[string]Entry)
	}
	t.entries[e.Path] = e
	return nil
}

func (t *Tree) addParents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if up, ok := t.entries[dir]; ok {
		if !up.Mode.IsDir() {
			return fmt.Errorf("add %s to tree: %s is not a directory", name, dir)
		}
		return nil
	}
	return t.Add(Entry{Path: dir, Mode: fs.ModeDir | 0o755})
}

// Lookup returns the entry at a path.
func (t *Tree) Lookup(name string) (Entry, bool) {
	e, ok := t.entries[name]
	return e, ok
}

// Entries returns all entries sorted by path, so that each directory comes before its content.
func (t *Tree) Entries() []Entry {
	all := make([]Entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Open returns the content of a regular file.
func (e Entry) Open() (io.ReadCloser, error) {
	if e.Source == "" {
		return io.NopCloser(bytes.NewReader(e.Content)), nil
	}
	f, err := os.Open(e.Source)
	if err != nil {
		return nil, fmt.Errorf("open content of %s: %w", e.Path, err)
	}
	return f, nil
}

// Size returns the length of a regular file's content; 0 for everything else.
func (e Entry) Size() (disk.Bytes, error) {
	if !e.Mode.IsRegular() {
		return 0, nil
	}
	if e.Source == "" {
		return disk.Bytes(len(e.Content)), nil
	}
	st, err := os.Stat(e.Source)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", e.Path, err)
	}
	return disk.Bytes(st.Size()), nil
}

// Digest returns the digest of everything in the tree: paths, modes, targets and contents, but not times and names of
// the host.
func (t *Tree) Digest() (string, error) {
	sum := sha256.New()
	for _, e := range t.Entries() {
		fmt.Fprintf(sum, "%q %o %q %d:%d ", e.Path, uint32(e.Mode), e.Target, e.Device.Major, e.Device.Minor)
		if e.Mode.IsRegular() {
			d, err := contentDigest(e)
			if err != nil {
				return "", err
			}
			sum.Write(d)
		}
		sum.Write([]byte("\n"))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func contentDigest(e Entry) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Source, err)
	}
	return sum.Sum(nil), nil
}

// WriteTar writes the tree as a tar stream whose every time is epoch (seconds since 1970).
func (t *Tree) WriteTar(w io.Writer, epoch int64) error {
	tw := tar.NewWriter(w)
	for _, e := range t.Entries() {
		if err := tarEntry(tw, e, epoch); err != nil {
			return fmt.Errorf("write tar entry %s: %w", e.Path, err)
		}
	}
	return tw.Close()
}

func tarEntry(tw *tar.Writer, e Entry, epoch int64) error {
	h, err := tarHeader(e, epoch)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(h); err != nil || !e.Mode.IsRegular() {
		return err
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(tw, r)
	return errors.Join(err, r.Close())
}

func tarHeader(e Entry, epoch int64) (*tar.Header, error) {
	size, err := e.Size()
	if err != nil {
		return nil, err
	}
	h := &tar.Header{Name: e.Path, Mode: int64(unixMode(e.Mode) & 0o7777), Size: int64(size), Format: tar.FormatGNU,
		ModTime: unixTime(epoch)}
	switch {
	case e.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case e.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Target, 0o777
	case e.Mode&fs.ModeCharDevice != 0:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.Device.Major), int64(e.Device.Minor)
	case e.Mode.IsRegular():
		h.Typeflag = tar.TypeReg
	default:
		return nil, fmt.Errorf("mode %v cannot be written", e.Mode)
	}
	return h, nil
}

// Usage returns the space that a tree needs in blocks of 4 KiB, and the largest file with its size.
func Usage(tree *Tree) (used disk.Bytes, largest string, err error) {
	const block = 4096
	var most disk.Bytes = -1
	for _, e := range tree.Entries() {
		size, err := e.Size()
		if err != nil {
			return 0, "", err
		}
		used += (size + block - 1) / block * block
		if e.Mode.IsDir() {
			used += block
		}
		if e.Mode.IsRegular() && size > most {
			most, largest = size, fmt.Sprintf("%s (%.1f MiB)", e.Path, float64(size)/float64(disk.MiB))
		}
	}
	return used, largest, nil
}

// Largest returns the n largest files of the tree, each with its uncompressed size. It leaves out files that it cannot
// look at.
func (t *Tree) Largest(n int) []string {
	type item struct {
		name string
		size disk.Bytes
	}
	var all []item
	for _, e := range t.Entries() {
		if size, err := e.Size(); err == nil {
			all = append(all, item{e.Path, size})
		}
	}
	slices.SortFunc(all, func(a, b item) int { return cmp.Compare(b.size, a.size) })
	var names []string
	for _, i := range all[:min(n, len(all))] {
		names = append(names, fmt.Sprintf("%s (%.1f MB)", i.name, float64(i.size)/1e6))
	}
	return names
}
