// Package keydir reads the directory of key files: it chooses the files that are read, and judges each. A file that has
// become wrong keeps the profile that it had, so that a typing error never takes a link down.
//
// It never writes. Read first: Directory.
package keydir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"resinos/net/assignment"
	"resinos/net/keyfile"
	"resinos/net/openvpn"
	"resinos/net/profile"
	"resinos/net/profilecheck"
)

// Directory is a directory of key files, as it was read last.
type Directory struct {
	Path  string
	Files []File // in the order of their names
}

// File is one key file.
type File struct {
	Name     string
	Profile  *profile.Profile // the last good one; nil: it never was good
	Error    string           // why the file as it is now is refused; empty: it is good
	Warnings []profile.Warning
}

// mostFiles is how many key files a directory may have.
const mostFiles = 500

// Read reads the directory again, and reports whether a profile or a fault has changed. A directory that does not exist
// is empty.
func (d *Directory) Read() (changed bool, err error) {
	list, err := os.ReadDir(d.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read key files: %w", err)
	}
	var files []File
	for _, e := range list {
		if e.IsDir() || keyfile.Ignored(e.Name()) || len(files) == mostFiles {
			continue
		}
		f, there := d.one(e.Name())
		if there {
			files = append(files, f)
		}
	}
	changed = !reflect.DeepEqual(files, d.Files)
	d.Files = files
	return changed, nil
}

// one reads one file. there is false if it vanished meanwhile.
func (d *Directory) one(name string) (f File, there bool) {
	f = File{Name: name}
	if i := slices.IndexFunc(d.Files, func(o File) bool { return o.Name == name }); i >= 0 {
		f.Profile = d.Files[i].Profile
	}
	text, err := read(filepath.Join(d.Path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return f, false
	}
	if err != nil {
		f.Error = fmt.Sprintf("%s: %v", name, err)
		return f, true
	}
	parse := profilecheck.Read
	if strings.HasSuffix(name, openvpn.Suffix) {
		parse = openvpn.Parse
	}
	p, warnings, err := parse(name, text)
	f.Warnings = warnings
	if err != nil {
		f.Error = err.Error()
		return f, true
	}
	f.Profile = &p
	return f, true
}

// read reads a file as NetworkManager demands it: regular, owned by root, and closed to everybody else.
func read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO does not hold us
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	sys, _ := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case sys != nil && sys.Uid != 0:
		return nil, fmt.Errorf("it belongs to user %d and not to root; try: chown root %s", sys.Uid, path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read it (mode %04o); try: chmod 600 %s", st.Mode().Perm(), path)
	}
	return io.ReadAll(io.LimitReader(file, keyfile.MaxSize+1))
}

// Entries returns the profiles that are in force.
func (d *Directory) Entries() []assignment.Entry {
	var out []assignment.Entry
	for _, f := range d.Files {
		if f.Profile != nil {
			out = append(out, assignment.Entry{File: f.Name, Profile: *f.Profile})
		}
	}
	return out
}
