package scp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sink receives files.
type sink struct {
	*peer
	options
}

// record is one control line: C is a file, D begins a directory, E ends it, T are the times of the next one.
type record struct {
	kind     byte
	mode     fs.FileMode
	size     int64
	name     string
	modified time.Time
	accessed time.Time
}

// parseRecord reads a control line without its newline: "C0644 299 name", "D0755 0 name", "E", "T1183832947 0
// 1183833773 0".
func parseRecord(line string) (r record, err error) {
	if line == "" {
		return r, errors.New("empty line")
	}
	r.kind = line[0]
	rest := line[1:]
	switch r.kind {
	case 'E':
		return r, nil
	case 'T':
		fields := strings.Fields(rest)
		if len(fields) != 4 {
			return r, errors.New("times are not four numbers")
		}
		modified, err1 := strconv.ParseInt(fields[0], 10, 64)
		accessed, err2 := strconv.ParseInt(fields[2], 10, 64)
		r.modified, r.accessed = time.Unix(modified, 0), time.Unix(accessed, 0)
		return r, errors.Join(err1, err2)
	case 'C', 'D':
		mode, rest, _ := strings.Cut(rest, " ")
		size, name, found := strings.Cut(rest, " ")
		bits, err1 := strconv.ParseUint(mode, 8, 12)
		r.size, err = strconv.ParseInt(size, 10, 64)
		if err = errors.Join(err1, err); err != nil {
			return r, err
		}
		// A name is a direct child of the target, never a path to another place.
		if !found || r.size < 0 || name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return r, errors.New("no size and name of a file")
		}
		r.mode, r.name = fs.FileMode(bits)&fs.ModePerm, name // set-user-id bits are not copied
		return r, nil
	}
	return r, fmt.Errorf("unknown kind %q", r.kind)
}

func (s *sink) run(target string) error {
	if info, err := os.Stat(target); s.directory && (err != nil || !info.IsDir()) {
		return s.complain(fmt.Errorf("%s: not a directory", target))
	}
	if err := s.good(); err != nil {
		return err
	}
	return s.level(target, 0)
}

// level receives the content of target until the directory ends; at depth 0 until the client ends.
func (s *sink) level(target string, depth int) error {
	var times *record
	for {
		b, err := s.in.ReadByte()
		if err == io.EOF && depth == 0 {
			return nil
		}
		if err != nil {
			return noEnd(err)
		}
		text, err := s.line()
		if err != nil {
			return err
		}
		if b == 1 || b == 2 { // the client could not read a file
			if s.fail(fmt.Errorf("the client reports: %.200q", text)); b == 2 {
				return nil
			}
			continue
		}
		r, err := parseRecord(string(b) + text)
		switch {
		case err != nil:
			return errors.Join(fmt.Errorf("client's line %.80q: %w", string(b)+text, err),
				s.complain(errors.New("protocol error")))
		case r.kind == 'T':
			times = &r
			err = s.good()
		case r.kind == 'E' && depth == 0:
			return errors.Join(errors.New("a directory ends that has not begun"),
				s.complain(errors.New("protocol error")))
		case r.kind == 'E':
			return s.good()
		case r.kind == 'D':
			err = s.enter(target, r, times, depth)
			times = nil
		default:
			err = s.file(place(target, r.name), r, times)
			times = nil
		}
		if err != nil {
			return err
		}
	}
}

// place returns the path for a file of that name: in target if that is a directory, else target itself.
func place(target, name string) string {
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return filepath.Join(target, name)
	}
	return target
}

// maxDepth limits the depth of directories.
const maxDepth = 64

func (s *sink) enter(target string, r record, times *record, depth int) error {
	if !s.recursive || depth >= maxDepth {
		return errors.Join(errors.New("a directory that was not asked for"),
			s.complain(fmt.Errorf("%s: is a directory", r.name)))
	}
	path := place(target, r.name)
	if err := os.Mkdir(path, r.mode|0o700); err != nil { // its files must be written
		if info, fault := os.Stat(path); fault != nil || !info.IsDir() {
			return s.complain(err) // the client skips it
		}
	}
	if err := s.good(); err != nil {
		return err
	}
	if err := s.level(path, depth+1); err != nil {
		return err
	}
	if err := s.keep(path, r, times); err != nil {
		s.fail(err) // the client has its answer already
	}
	return nil
}

func (s *sink) file(path string, r record, times *record) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, r.mode|0o200)
	if err != nil {
		return s.complain(err) // the client skips it
	}
	if err := s.good(); err != nil {
		return errors.Join(err, f.Close())
	}
	written, fault := io.CopyN(f, s.in, r.size)
	if written < r.size && fault != nil {
		// The disk refuses, or the client is gone. The rest of the file is read, so that the next line is a control
		// line.
		if _, err := io.CopyN(io.Discard, s.in, r.size-written); err != nil {
			return errors.Join(noEnd(err), f.Close())
		}
	}
	if info, err := f.Stat(); fault == nil && err == nil && info.Mode().IsRegular() {
		fault = f.Truncate(r.size)
	}
	fault = errors.Join(fault, f.Close())
	ok, err := s.answer() // reports whether the client could read all of it
	if err != nil {
		return err
	}
	if fault = errors.Join(fault, s.keep(path, r, times)); fault != nil {
		return s.complain(fault)
	}
	if !ok {
		return nil // the client has reported it, and waits for no answer
	}
	return s.good()
}

// keep sets the mode and times that the client wants to preserve.
func (s *sink) keep(path string, r record, times *record) error {
	if !s.times {
		return nil
	}
	err := os.Chmod(path, r.mode)
	if times != nil {
		err = errors.Join(err, os.Chtimes(path, times.accessed, times.modified))
	}
	return err
}
