// Package deb reads files from Debian packages in pure Go: an ar archive that contains a compressed tar.
//
// It never runs a package's scripts, never writes a file, and trusts no name in an archive. Large xz archives are
// decompressed by the host's xz if there is one, because it is about three times as fast. Read Extract first.
package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// An Entry is one member of the package's data archive.
type Entry struct {
	Name string      // without leading slash or dot: "usr/bin/busybox"
	Mode fs.FileMode // type and permission bits
	Size int64
	Link string // target of a symbolic link; for a hard link the name of the other entry
	Hard bool   // a hard link
}

// SkipAll ends Extract without an error when visit returns it.
var SkipAll = fs.SkipAll

// Extract calls visit for each entry that want selects, in the order of the archive; a nil want selects all. The reader
// is valid during the call only. To cancel, visit returns an error; Extract then ends and returns that error unchanged.
func Extract(file string, want func(name string) bool, visit func(Entry, io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	defer f.Close() // nothing was written
	member, data, err := findData(f)
	if err != nil {
		return fmt.Errorf("read package %s: %w", file, err)
	}
	plain, err := decompress(member, data)
	if err != nil {
		return fmt.Errorf("read %s in package %s: %w", member, file, err)
	}
	err = walk(tar.NewReader(plain), want, visit)
	if err == nil {
		_, err = io.Copy(io.Discard, plain) // to the end, where the checksum is
	}
	if cerr := plain.Close(); err == nil {
		err = cerr
	}
	var own visitError
	if errors.As(err, &own) {
		if errors.Is(own.error, SkipAll) {
			return nil
		}
		return own.error
	}
	if err != nil {
		return fmt.Errorf("read %s in package %s: %w", member, file, err)
	}
	return nil
}

// visitError distinguishes what visit returned from faults of the package.
type visitError struct{ error }

func walk(archive *tar.Reader, want func(string) bool, visit func(Entry, io.Reader) error) error {
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := clean(h.Name)
		if err != nil {
			return err
		}
		if name == "." || want != nil && !want(name) {
			continue
		}
		e := Entry{Name: name, Mode: h.FileInfo().Mode(), Size: h.Size, Link: h.Linkname,
			Hard: h.Typeflag == tar.TypeLink}
		if e.Hard {
			if e.Link, err = clean(h.Linkname); err != nil {
				return err
			}
		}
		if err := visit(e, archive); err != nil {
			return visitError{err}
		}
	}
}

func clean(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("name %q leads out of the package", name)
	}
	return p, nil
}
